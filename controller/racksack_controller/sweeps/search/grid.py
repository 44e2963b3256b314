"""Which numbers of a grid are points: those that `where` and the conditions of parameters leave in.

The numbers stay as they are, so a constraint changes no point's number. The grid is looked at in blocks, a column for
each parameter that the conditions name, and what comes out is ranges: a grid of ten million takes a second and little
memory. A grid that falls into very many ranges is refused, since they are kept for as long as the sweep runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from racksack_controller.sweeps.search import column_expressions
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, point_numbers

BLOCK = column_expressions.ROWS_MAX
RANGES_MAX = 200_000
Mask = Any  # a numpy array of bool


def is_constrained(spec: SweepSpec) -> bool:
    """Whether some numbers are left out."""
    return bool(spec.where) or any(axis.only_if for axis in spec.axes)


def combinations(spec: SweepSpec) -> int:
    """How many combinations the axes have, whatever the search; may be beyond what 64 bits hold."""
    return math.prod(len(axis.values) for axis in spec.axes)


def allowed(spec: SweepSpec) -> Iterator[tuple[int, int]]:
    """The points of a sweep as ranges [from, up to but without], in order. Of a search: of the grid it draws from.

    Looks at every combination, so the caller has looked at how many there are. Raises ValueError with a sentence.
    """
    total = combinations(spec) if spec.axes else point_numbers(spec)
    if not is_constrained(spec):
        if total:
            yield 0, total
        return
    for count, found in enumerate(_true_ranges(spec)):
        if count >= RANGES_MAX:
            raise ValueError(
                f"it cuts the grid into more than {RANGES_MAX} pieces; write fewer combinations, put the parameters "
                "that it names first, or choose a search"
            )
        yield found


def _masks(spec: SweepSpec) -> Iterator[tuple[int, Mask]]:
    """Which combinations are points, block by block, each with the number that it begins at."""
    grid, total = Grid(spec), combinations(spec)
    block = min(BLOCK, grid.rows_at_once)
    for low in range(0, total, block):
        yield low, grid.mask(np.arange(low, min(total, low + block), dtype=np.int64))


def count_allowed(spec: SweepSpec) -> int:
    """How many combinations are points. Raises ValueError as `allowed` does."""
    if not is_constrained(spec):
        return combinations(spec)
    return sum(int(np.count_nonzero(mask)) for _, mask in _masks(spec))


def allowed_numbers(spec: SweepSpec) -> Any:  # noqa: ANN401 - an array
    """The numbers of all points, for a grid that is small. Raises ValueError as `allowed` does."""
    if not is_constrained(spec):
        return np.arange(combinations(spec), dtype=np.int64)
    found = [np.flatnonzero(mask) + low for low, mask in _masks(spec)]
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _true_ranges(spec: SweepSpec) -> Iterator[tuple[int, int]]:
    start: int | None = None
    end = 0
    for low, mask in _masks(spec):
        end = low + len(mask)
        edges = np.flatnonzero(np.diff(np.concatenate(([start is not None], mask, [False]))))
        ends_open = bool(mask[-1])
        for edge in edges.tolist():
            if start is None:
                start = low + edge
            elif edge < len(mask) or not ends_open:
                yield start, low + edge
                start = None
    if start is not None:
        yield start, end


class Grid:
    """The combinations of a spec's axes, as columns."""

    def __init__(self, spec: SweepSpec) -> None:
        self._axes = spec.axes
        self._where = expressions.parse(spec.where) if spec.where else None
        self._only_if = {axis.name: expressions.parse(axis.only_if) for axis in spec.axes if axis.only_if}
        named = {name for one in self._conditions() for name in one.names}
        self._values = {axis.name: column_of(axis) for axis in spec.axes if axis.name in named}
        self._strides = [1] * len(spec.axes)
        for index in range(len(spec.axes) - 1, 0, -1):
            self._strides[index - 1] = self._strides[index] * len(spec.axes[index].values)
        self.rows_at_once = column_expressions.rows_at_once(
            self._conditions(), len(self._values) + 2 * len(self._only_if)
        )

    def _conditions(self) -> list[expressions.Expression]:
        return [*([self._where] if self._where is not None else []), *self._only_if.values()]

    def indices(self, numbers: Any) -> list[Any]:  # noqa: ANN401 - arrays
        """The place of each number on each axis."""
        return [self._places(at, numbers) for at in range(len(self._axes))]

    def _places(self, at: int, numbers: Any) -> Any:  # noqa: ANN401 - arrays
        return numbers // self._strides[at] % len(self._axes[at].values)

    def mask(self, numbers: Any) -> Mask:  # noqa: ANN401
        """Which of these numbers are points. Raises ValueError with a sentence for an expression without a value."""
        columns = self._looked_up(numbers)
        present = present_in(self._only_if, columns, len(numbers))
        mask = np.ones(len(numbers), dtype=bool)
        for at, axis in enumerate(self._axes):
            if axis.name in present:
                mask &= present[axis.name] | (self._places(at, numbers) == 0)
        if self._where is not None:
            mask &= self._satisfied(self._where, columns, present, len(numbers))
        return mask

    def _satisfied(
        self, where: expressions.Expression, columns: dict[str, Any], present: dict[str, Mask], count: int
    ) -> Mask:
        """For which points `where` holds, or names a parameter that they do not have."""
        speaks = np.ones(count, dtype=bool)
        for name in where.names:
            if name in present:
                speaks &= present[name]
        return ~speaks | true_of(column_expressions.evaluate(where, columns), count)

    def present(self, numbers: Any) -> dict[str, Mask]:  # noqa: ANN401
        """By the name of a conditional parameter, which of these points have it. Raises ValueError as `mask` does."""
        return present_in(self._only_if, self._looked_up(numbers) if self._only_if else {}, len(numbers))

    def _looked_up(self, numbers: Any) -> dict[str, Any]:  # noqa: ANN401
        """The columns of the parameters that conditions name."""
        return {
            axis.name: self._values[axis.name][self._places(at, numbers)]
            for at, axis in enumerate(self._axes)
            if axis.name in self._values
        }


def column_of(axis: Axis) -> Any:  # noqa: ANN401
    """The values of an axis as an array that computes: numbers as such, all else as objects."""
    kinds = {type(value) for value in axis.values}
    if kinds <= {int, float} or kinds == {bool}:
        return np.array(axis.values)
    found = np.empty(len(axis.values), dtype=object)
    found[:] = axis.values
    return found


def present_in(only_if: Mapping[str, expressions.Expression], columns: dict[str, Any], count: int) -> dict[str, Mask]:
    """By the name of a conditional parameter, which of so many points have it. Conditions name parameters before their
    own.
    """
    present: dict[str, Mask] = {}
    for name, condition in only_if.items():
        holds = true_of(column_expressions.evaluate(condition, columns), count)
        for other in condition.names:
            if other in present:
                holds &= present[other]
        present[name] = holds
    return present


def true_of(value: Any, count: int) -> Mask:  # noqa: ANN401
    """A condition's value as one truth for each point; nan is not true."""
    found = np.broadcast_to(np.asarray(value), (count,))
    if found.dtype != bool:
        with np.errstate(all="ignore"):
            found = found.astype(bool) & (found == found)  # nan is not equal to itself
    return found.copy()
