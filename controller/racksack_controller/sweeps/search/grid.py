"""Which numbers of a grid are points: those that `where` and the conditions of parameters leave in.

The numbers stay as they are, so a constraint changes no point's number. The grid is looked at in blocks, a column for
each parameter, and what comes out is ranges: a grid of ten million takes a second and no memory to speak of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from racksack_controller.sweeps.search import column_expressions
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, point_numbers

BLOCK = 1 << 18
Mask = Any  # a numpy array of bool


def is_constrained(spec: SweepSpec) -> bool:
    """Whether some numbers are left out."""
    return bool(spec.where) or any(axis.only_if for axis in spec.axes)


def allowed(spec: SweepSpec) -> Iterator[tuple[int, int]]:
    """The points of a sweep as ranges [from, up to but without], in order. Of a search: of the grid it draws from."""
    total = math.prod(len(axis.values) for axis in spec.axes) if spec.axes else point_numbers(spec)
    if not is_constrained(spec):
        if total:
            yield 0, total
        return
    grid = Grid(spec)
    start: int | None = None
    for low in range(0, total, BLOCK):
        mask = grid.mask(np.arange(low, min(total, low + BLOCK), dtype=np.int64))
        edges = np.flatnonzero(np.diff(np.concatenate(([start is not None], mask, [False]))))
        ends_open = bool(mask[-1])
        for edge in edges.tolist():
            if start is None:
                start = low + edge
            elif edge < len(mask) or not ends_open:
                yield start, low + edge
                start = None
    if start is not None:
        yield start, total


class Grid:
    """The combinations of a spec's axes, as columns."""

    def __init__(self, spec: SweepSpec) -> None:
        self._axes = spec.axes
        self._where = expressions.parse(spec.where) if spec.where else None
        self._values = [column_of(axis) for axis in spec.axes]
        self._strides = [1] * len(spec.axes)
        for index in range(len(spec.axes) - 1, 0, -1):
            self._strides[index - 1] = self._strides[index] * len(spec.axes[index].values)

    def indices(self, numbers: Any) -> list[Any]:  # noqa: ANN401 - arrays
        """The place of each number on each axis."""
        return [numbers // stride % len(axis.values) for axis, stride in zip(self._axes, self._strides, strict=True)]

    def mask(self, numbers: Any) -> Mask:  # noqa: ANN401
        """Which of these numbers are points. Raises ValueError with a sentence for an expression without a value."""
        places, columns = self._looked_up(numbers)
        present = self._present(columns, len(numbers))
        mask = np.ones(len(numbers), dtype=bool)
        for axis, place in zip(self._axes, places, strict=True):
            mask &= present[axis.name] | (place == 0)
        if self._where is not None:
            speaks = np.ones(len(numbers), dtype=bool)
            for name in self._where.names:
                speaks &= present[name]
            mask &= ~speaks | _true(column_expressions.evaluate(self._where, columns), len(numbers))
        return mask

    def present(self, numbers: Any) -> dict[str, Mask]:  # noqa: ANN401
        """By the name of a parameter, which of these points have it. Raises ValueError as `mask` does."""
        is_conditional = any(axis.only_if for axis in self._axes)
        return self._present(self._looked_up(numbers)[1] if is_conditional else {}, len(numbers))

    def _looked_up(self, numbers: Any) -> tuple[list[Any], dict[str, Any]]:  # noqa: ANN401
        places = self.indices(numbers)
        columns = zip(self._axes, self._values, places, strict=True)
        return places, {axis.name: values[place] for axis, values, place in columns}

    def _present(self, columns: dict[str, Any], count: int) -> dict[str, Mask]:
        present = {axis.name: np.ones(count, dtype=bool) for axis in self._axes}
        for axis in self._axes:
            if axis.only_if:
                condition = expressions.parse(axis.only_if)
                holds = _true(column_expressions.evaluate(condition, columns), count)
                for name in condition.names:
                    holds &= present[name]
                present[axis.name] = holds
        return present


def column_of(axis: Axis) -> Any:  # noqa: ANN401
    """The values of an axis as an array that computes: numbers as such, all else as objects."""
    kinds = {type(value) for value in axis.values}
    if kinds <= {int, float} or kinds == {bool}:
        return np.array(axis.values)
    found = np.empty(len(axis.values), dtype=object)
    found[:] = axis.values
    return found


def _true(value: Any, count: int) -> Mask:  # noqa: ANN401
    """A condition's value as one truth for each point; nan is not true."""
    found = np.broadcast_to(np.asarray(value), (count,))
    if found.dtype != bool:
        with np.errstate(all="ignore"):
            found = found.astype(bool) & (found == found)  # nan is not equal to itself
    return found.copy()
