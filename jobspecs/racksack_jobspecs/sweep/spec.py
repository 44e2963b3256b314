"""What a sweep is: the `sweep:` mapping of a job file, checked, with every axis written out.

Points are numbered from 0. In a space of axes (`axes`) the number alone says what the parameters are, so they are
stored nowhere; the last axis counts fastest, as in nested loops. `where` leaves numbers out, it does not renumber. So
does a condition (`only_if`): where it is false, the point stands under the number that has the axis's first value, and
its parameters are without that axis. In a range point n is the n-th part, in a list of jobs the n-th. Where a search
draws its points, the number is the order of drawing and the parameters are stored; it draws from `axes` (by their
values) and from `domains`.
"""

from __future__ import annotations

import math
import shlex
from typing import Literal

import msgspec

FOLD, SEED = "fold", "seed"  # the axes of folds and repeats

Value = bool | int | float | str | None
Params = dict[str, Value]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a point is computed by."""

    kind: Literal["function", "program", "script"] = "function"
    file: str = ""  # of a function: inside the project
    name: str = ""  # of a function
    argv: tuple[str, ...] = ()  # of a program: words with {name}; parameters that no word names become `--name value`
    fixed: Params = {}  # arguments that every point gets


VALUES_OF_ONE = 20_000  # of parameters: so many more count as one more sweep


class Axis(msgspec.Struct, frozen=True):
    """One parameter and the values it takes, in order."""

    name: str
    values: tuple[Value, ...]
    only_if: str = ""  # an expression of other parameters: where it is false, the point does not have this one


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter of a searched space that has no steps: an interval, its ends included."""

    name: str
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False
    only_if: str = ""  # as of an axis


class Range(msgspec.Struct, frozen=True):
    """Numbers `first` up to but without `last`, in parts of `step`: the function gets `start` and `end` of a part."""

    name: str
    first: int
    last: int
    step: int


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a list of jobs."""

    job_id: str
    script: str
    args: tuple[str, ...] = ()
    gpu_id: int | None = None


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How points are chosen."""

    kind: Literal["grid", "random", "lhs", "sobol", "tpe", "cmaes", "ga"] = "grid"
    count: int | None = None  # how many points; None: all of a grid
    seed: int = 0
    population: int | None = None  # points of a generation, of cmaes and ga; None: by the number of parameters
    warm_start: str = ""  # of a search that learns: the id of an earlier sweep that it knows, or auto


class Metric(msgspec.Struct, frozen=True):
    """What a point is judged by."""

    name: str = "value"
    direction: Literal["max", "min"] = "max"


class Chunking(msgspec.Struct, frozen=True):
    """How many points a runner gets at once."""

    target_s: float = 300.0  # a chunk is to last so long at most; the first ones are shorter
    points_min: int = 1
    points_max: int | None = None


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """Which points are stopped early, by what they report while they run.

    asha, hyperband: at rungs `grace`, `grace` * `reduction`, ..., a point goes on that is among the best
    1 / `reduction` of those that have come so far; median: at `grace`, 2 * `grace`, ..., one that is no worse than
    half of them.
    """

    kind: Literal["asha", "hyperband", "median"] = "asha"
    grace: float = 1.0  # the step of the first rung
    reduction: int = 3
    rungs: int = 8


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The best points run a second time, on other data."""

    top: int | None = None  # None: all
    env: dict[str, str] = {}
    args: Params = {}


class SweepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One sweep."""

    target: Target
    axes: tuple[Axis, ...] = ()
    domains: tuple[Domain, ...] = ()
    range: Range | None = None
    scripts: tuple[Script, ...] = ()
    where: str = ""  # an expression that a combination must satisfy
    search: Search = Search()
    metrics: tuple[Metric, ...] = (Metric(),)  # the first one ranks
    point_timeout_s: float | None = None
    retries: int = 1  # of a point that failed; one whose worker died counts the same
    backoff_s: float = 2.0  # before the first retry; doubled each time
    fails_max: int | None = None  # the sweep ends when more points than this have failed for good
    fails_share_max: float | None = None  # likewise, as a share of all points
    chunking: Chunking = Chunking()
    runners_max: int | None = None  # at once; None: as many as fit
    slots: int | None = None  # workers of a runner; None: one for each GPU, else for each core
    slots_on: dict[str, int] = {}  # workers of a runner on these nodes, by name
    stuck_after_s: float = 600.0  # a runner that says nothing for so long is given up
    stop: Stopping | None = None
    folds: tuple[Params, ...] = ()  # each combination is computed on all of them; the arguments of each
    repeats: int = 1  # how often each is computed, with seeds 0, 1, ...
    aggregate: Literal["mean", "median", "worst"] = "mean"  # what a combination is ranked by
    requires: str = ""  # an expression of metrics: a point for which it is false is not ranked
    control: Control | None = None
    ramdisk: tuple[str, ...] = ()  # paths of the project that lie in memory while a runner is on a node
    notify: tuple[str, ...] = ()

    @property
    def per_combination(self) -> int:
        """How many points, one after another, are one combination: its folds and repeats."""
        return max(1, len(self.folds)) * self.repeats

    @property
    def weight(self) -> int:
        """As how many sweeps it counts where they are limited: values of parameters are held in memory, all of them."""
        values = sum(len(axis.values) for axis in self.axes) + sum(len(one.args) + 1 for one in self.scripts)
        return 1 + values // VALUES_OF_ONE

    @property
    def is_adaptive(self) -> bool:
        """Whether the next points depend on the results of earlier ones."""
        return self.search.kind in ("tpe", "cmaes", "ga")


def point_numbers(spec: SweepSpec) -> int:
    """Every point has a number below this one; `where` may leave some out."""
    if spec.range is not None:
        return -(-(spec.range.last - spec.range.first) // spec.range.step)
    if spec.scripts:
        return len(spec.scripts)
    if spec.search.kind == "grid":
        return math.prod(len(axis.values) for axis in spec.axes)
    return spec.search.count or 0


def params_of(spec: SweepSpec, point: int) -> Params:
    """The parameters of a point whose number says what they are. Raises IndexError for a number beyond the last."""
    if not 0 <= point < point_numbers(spec):
        raise IndexError(f"there is no point {point}")
    if spec.range is not None:
        start = spec.range.first + point * spec.range.step
        return {"start": start, "end": min(start + spec.range.step, spec.range.last)}
    if spec.scripts:
        script = spec.scripts[point]
        return {"job_id": script.job_id, "script": script.script, "args": shlex.join(script.args)}
    values = []
    for axis in reversed(spec.axes):
        point, index = divmod(point, len(axis.values))
        values.append((axis.name, axis.values[index]))
    return without_absent(spec, dict(reversed(values)))


def combined_axes(spec: SweepSpec) -> list[Axis]:
    """The axes of the folds and repeats of each combination, which count fastest."""
    found = [Axis(FOLD, tuple(range(len(spec.folds))))] if spec.folds else []
    return [*found, Axis(SEED, tuple(range(spec.repeats)))] if spec.repeats > 1 else found


def arguments_of(spec: SweepSpec, params: Params) -> Params:
    """What a function is called with: the number of the fold becomes the arguments of that fold."""
    fold = params.get(FOLD)
    return {**params, **spec.folds[fold]} if spec.folds and isinstance(fold, int) else params


def without_absent(spec: SweepSpec, values: Params) -> Params:
    """The parameters of a point without those whose condition is false, looked at in the order of the spec."""
    conditional: list[Axis | Domain] = [axis for axis in spec.axes if axis.only_if]
    conditional += [domain for domain in spec.domains if domain.only_if]
    if not conditional:
        return values
    from racksack_jobspecs.sweep.expressions import holds

    kept = dict(values)
    for one in conditional:
        if one.name in kept and not holds(one.only_if, kept):
            del kept[one.name]
    return kept
