"""Searches that learn nothing: random points, Latin hypercubes, Sobol sequences. The seed says which points they are.

Each draws points of the unit cube, a dimension for each parameter, and maps them to values; so a restart draws the
same points again and goes on behind those that are stored. A combination that `where` leaves out is passed over.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from racksack_controller.sweeps.search.grid import allowed
from racksack_controller.sweeps.search.protocol import Outcome
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.spec import Axis, Domain, Params, SweepSpec, Value, params_of, without_absent

BLOCK = 1024
MISSES_MAX = 10_000  # combinations in a row that `where` leaves out

Cube = Any  # an array of points of the unit cube, a row each


class SearchError(Exception):
    """A search cannot go on; the sentence says why."""


class Spread:
    """A search that learns nothing."""

    def __init__(self, points: Iterator[Params], drawn: int) -> None:
        self._points = itertools.islice(points, drawn, None)

    def draw(self, count: int) -> list[Params]:
        """The next points. Raises SearchError where `where` leaves nothing in."""
        return list(itertools.islice(self._points, count))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing is learnt."""


def points_of(spec: SweepSpec) -> Iterator[Params]:
    """All points of a search that learns nothing, in the order of drawing."""
    if spec.search.kind == "random" and not spec.domains:
        return _without_repeats(spec)
    count = spec.search.count or 0
    return itertools.islice(_kept(spec, _CUBES[spec.search.kind](spec, count)), count)


def distinct_points(spec: SweepSpec) -> int | None:
    """How many points a random search can draw without a repeat; None where there is no end."""
    if spec.search.kind != "random" or spec.domains:
        return None
    return sum(high - low for low, high in allowed(spec))


def _without_repeats(spec: SweepSpec) -> Iterator[Params]:
    """Points of the grid, each at most once."""
    ranges = list(allowed(spec))
    ends = np.cumsum([high - low for low, high in ranges])
    total = int(ends[-1]) if ranges else 0
    rng = np.random.default_rng(spec.search.seed)
    chosen = rng.choice(total, size=min(total, spec.search.count or 0), replace=False)
    where = np.searchsorted(ends, chosen, side="right")
    for place, index in zip(where.tolist(), chosen.tolist(), strict=True):
        high = ranges[place][1]
        yield params_of_grid(spec, high - (int(ends[place]) - index))


def params_of_grid(spec: SweepSpec, number: int) -> Params:
    """The combination with this number, whatever the search."""
    grid = SweepSpec(target=spec.target, axes=spec.axes)
    return params_of(grid, number)


def _kept(spec: SweepSpec, cubes: Iterator[Cube]) -> Iterator[Params]:
    missed = 0
    for cube in cubes:
        for row in cube.tolist():
            params = from_cube(spec, row)
            if spec.where and not expressions.leaves_in(spec.where, params):
                missed += 1
                if missed > MISSES_MAX:
                    raise SearchError(f"`where` left out {MISSES_MAX} drawn points in a row; loosen it: {spec.where}")
                continue
            missed = 0
            yield params


def from_cube(spec: SweepSpec, row: Sequence[float]) -> Params:
    """The parameters at a point of the unit cube."""
    dimensions: list[Axis | Domain] = [*spec.axes, *spec.domains]
    values = {one.name: _value(one, part) for one, part in zip(dimensions, row, strict=True)}
    return without_absent(spec, values)


def _value(one: Axis | Domain, part: float) -> Value:
    if isinstance(one, Axis):
        return one.values[min(int(part * len(one.values)), len(one.values) - 1)]
    if one.is_log:
        exponent = math.log(one.low) + part * (math.log(one.high) - math.log(one.low))
        return min(max(math.exp(exponent), one.low), one.high)
    if one.is_whole:
        return min(int(one.low + part * (one.high - one.low + 1)), int(one.high))
    return min(one.low + part * (one.high - one.low), one.high)


def _dimensions(spec: SweepSpec) -> int:
    return len(spec.axes) + len(spec.domains)


def _random(spec: SweepSpec, _count: int) -> Iterator[Cube]:
    rng = np.random.default_rng(spec.search.seed)
    while True:
        yield rng.random((BLOCK, _dimensions(spec)))


def _latin_hypercube(spec: SweepSpec, count: int) -> Iterator[Cube]:
    """Each of `count` equal parts of each parameter is drawn once (McKay, Beckman, Conover 1979). What `where` leaves
    out is replaced by random points.
    """
    rng = np.random.default_rng(spec.search.seed)
    strata = np.stack([rng.permutation(count) for _ in range(_dimensions(spec))], axis=1)
    yield (strata + rng.random(strata.shape)) / count
    yield from _random(spec, count)


def _sobol(spec: SweepSpec, _count: int) -> Iterator[Cube]:
    """A scrambled Sobol sequence (Owen 1998)."""
    try:
        from scipy.stats import qmc
    except ImportError:
        raise SearchError(
            "the search sobol needs scipy, which is not installed beside the controller; "
            "install it with `pip install 'racksack[sweeps]'`"
        ) from None
    sequence = qmc.Sobol(_dimensions(spec), scramble=True, rng=spec.search.seed)
    while True:
        yield sequence.random(BLOCK)


_CUBES = {"random": _random, "lhs": _latin_hypercube, "sobol": _sobol}
