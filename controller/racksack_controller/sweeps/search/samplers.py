"""Searches that learn nothing: random points, Latin hypercubes, Sobol sequences. The seed says which points they are.

Each draws blocks of points of the unit cube, a dimension for each parameter, so a restart draws the same points again
and goes on behind those that are stored. A combination that `where` leaves out is passed over. A grid is never counted
unless it is small: random points of a large one are drawn until one is left in, and there is an end to that.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from racksack_controller.sweeps.search.cube import Cube, Space, params_at, params_at_places
from racksack_controller.sweeps.search.grid import allowed_numbers, combinations, count_allowed
from racksack_controller.sweeps.search.protocol import Outcome
from racksack_jobspecs.origin import install_hint
from racksack_jobspecs.sweep.spec import Params, SweepSpec, params_of

BLOCK = 4096
COUNTED_MAX = 1 << 22  # combinations of a grid that are looked at one by one
MISSES_MAX = 1_000_000  # combinations in a row that `where` leaves out, or that were drawn before
DRAW_S = 1.0  # so long one call goes on for more points once it has some


class SearchError(Exception):
    """A search cannot go on; the sentence says why."""


class Points:
    """The points of a search that learns nothing, in the order of drawing: rows in blocks, written out when taken."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._build: Callable[[Any], Params]
        self._blocks: Iterator[Any]
        if spec.search.kind != "random" or spec.domains:
            self._build, self._blocks = lambda row: params_at(spec, row), _kept(spec, _cubes(spec))
        elif combinations(spec) <= COUNTED_MAX:
            self._build, self._blocks = lambda number: params_of_grid(spec, number), _chosen(spec)
        else:
            self._build, self._blocks = lambda places: params_at_places(spec, places), _unrepeated(spec)
        self._rows: list[Any] = []
        self._at = 0
        self._given = 0
        self._missed = 0

    def skip(self, count: int) -> None:
        """Pass over points that are stored. Raises SearchError."""
        while count > 0 and (ready := self._ready(count)):
            self._at += ready
            self._given += ready
            count -= ready

    def take(self, count: int) -> list[Params]:
        """The next points, fewer at the end or when they are hard to find. Raises SearchError."""
        found: list[Params] = []
        until_s = time.monotonic() + DRAW_S
        while len(found) < count and (not found or time.monotonic() < until_s):
            try:
                ready = self._ready(count - len(found))
            except SearchError:
                if found:
                    return found  # the next call raises it again
                raise
            if not ready:
                return found
            found += map(self._build, self._rows[self._at : self._at + ready])
            self._at += ready
            self._given += ready
        return found

    def _ready(self, count: int) -> int:
        """How many points, up to `count`, can be taken now; 0 at the end. Raises SearchError."""
        while self._at == len(self._rows):
            if self._missed > MISSES_MAX:
                raise SearchError(self._nothing_found())
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rows, self._at = block.tolist(), 0
            self._missed = 0 if self._rows else self._missed + BLOCK
        return min(count, len(self._rows) - self._at)

    def _nothing_found(self) -> str:
        where = f"`where` left out {MISSES_MAX} drawn points in a row"
        if self._given:
            return f"after {self._given} points {where}; loosen it, or write --count {self._given}"
        return f"{where}; loosen it: {self._spec.where}"


class Spread:
    """A search that learns nothing."""

    def __init__(self, spec: SweepSpec, drawn: int) -> None:
        self._left = max(0, (spec.search.count or 0) - drawn)
        self._points = Points(spec)
        self._stored = drawn  # points to pass over first

    def draw(self, count: int) -> list[Params]:
        """The next points. Raises SearchError where `where` leaves nothing in."""
        self._points.skip(self._stored)
        self._stored = 0
        found = self._points.take(min(count, self._left))
        self._left -= len(found)
        return found

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing is learnt."""

    def close(self) -> None:
        """Nothing is held."""


def distinct_points(spec: SweepSpec) -> int | None:
    """How many points a random search can draw without a repeat; None where there is no end, or none that is known.

    Raises ValueError with a sentence where `where` has no value.
    """
    if spec.search.kind != "random" or spec.domains or combinations(spec) > COUNTED_MAX:
        return None
    return count_allowed(spec)


def check_some(spec: SweepSpec) -> None:
    """Raises ValueError with a sentence where `where` leaves so little in that no point is found."""
    if not spec.where:
        return
    points = Points(_as_random(spec))
    try:
        found = points.take(1)
    except SearchError as error:
        raise ValueError(str(error)) from None
    if not found:
        raise ValueError(f"`where` excludes every combination; loosen it: {spec.where}")


def _as_random(spec: SweepSpec) -> SweepSpec:
    from msgspec.structs import replace

    return replace(spec, search=replace(spec.search, kind="random", count=1))


def params_of_grid(spec: SweepSpec, number: int) -> Params:
    """The combination with this number, whatever the search."""
    grid = SweepSpec(target=spec.target, axes=spec.axes)
    return params_of(grid, number)


def _chosen(spec: SweepSpec) -> Iterator[Any]:
    """Numbers of points of a small grid, each at most once."""
    numbers = allowed_numbers(spec)
    rng = np.random.default_rng(spec.search.seed)
    yield numbers[rng.choice(len(numbers), size=min(len(numbers), spec.search.count or 0), replace=False)]


def _unrepeated(spec: SweepSpec) -> Iterator[Any]:
    """Places of points of a large grid, each at most once: drawn, and drawn again where that is needed."""
    space, seen = Space(spec), set[bytes]()
    for cube in _random(spec):
        kept = cube[space.kept(cube)]
        new = []
        for places in space.places(kept):
            mark = hashlib.blake2b(places.tobytes(), digest_size=12).digest()
            if mark not in seen:
                seen.add(mark)
                new.append(places)
        yield np.array(new, dtype=np.int64)


def _kept(spec: SweepSpec, cubes: Iterator[Cube]) -> Iterator[Cube]:
    space = Space(spec)
    for cube in cubes:
        yield cube[space.kept(cube)]


def _cubes(spec: SweepSpec) -> Iterator[Cube]:
    if spec.search.kind == "lhs":
        return _latin_hypercube(spec)
    return _sobol(spec) if spec.search.kind == "sobol" else _random(spec)


def _dimensions(spec: SweepSpec) -> int:
    return len(spec.axes) + len(spec.domains)


def _random(spec: SweepSpec) -> Iterator[Cube]:
    rng = np.random.default_rng(spec.search.seed)
    while True:
        yield rng.random((BLOCK, _dimensions(spec)))


def _latin_hypercube(spec: SweepSpec) -> Iterator[Cube]:
    """Each of `count` equal parts of each parameter is drawn once (McKay, Beckman, Conover 1979). What `where` leaves
    out is replaced by random points.
    """
    count, dimensions = spec.search.count or 0, _dimensions(spec)
    rng = np.random.default_rng(spec.search.seed)
    strata = np.empty((dimensions, count), dtype=np.uint32)
    for line in strata:
        line[:] = rng.permutation(count)
    for low in range(0, count, BLOCK):
        block = strata[:, low : low + BLOCK].T
        yield (block + rng.random(block.shape)) / count
    yield from _random(spec)


def _sobol(spec: SweepSpec) -> Iterator[Cube]:
    """A scrambled Sobol sequence (Owen 1998)."""
    try:
        from scipy.stats import qmc
    except ImportError:
        raise SearchError(
            f"the search sobol needs scipy, which is not installed beside the controller; {install_hint('sweeps')}"
        ) from None
    sequence = qmc.Sobol(_dimensions(spec), scramble=True, rng=spec.search.seed)
    while True:
        yield sequence.random(BLOCK)
