"""Points of the unit cube -> values of parameters, for one point or for a block of them.

A search that learns nothing draws from the unit cube, a dimension for each parameter. What `where` leaves out is found
for a whole block at once, in columns; parameters are written out only for the points that are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from racksack_controller.sweeps.search import column_expressions
from racksack_controller.sweeps.search.grid import Mask, column_of, present_in, true_of
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.spec import Axis, Domain, Params, SweepSpec, Value, without_absent

Cube = Any  # an array of points of the unit cube, a row each
Places = Any  # an array of places on axes, a row for each point
Column = Any


def params_at(spec: SweepSpec, row: Sequence[float]) -> Params:
    """The parameters at a point of the unit cube."""
    dimensions: list[Axis | Domain] = [*spec.axes, *spec.domains]
    values = {one.name: _value(one, part) for one, part in zip(dimensions, row, strict=True)}
    return without_absent(spec, values)


def params_at_places(spec: SweepSpec, places: Sequence[int]) -> Params:
    """The parameters of a combination, by the place of each on its axis."""
    values = {axis.name: axis.values[place] for axis, place in zip(spec.axes, places, strict=True)}
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


class Space:
    """The parameters of a spec, as columns over blocks of the unit cube."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._dimensions: list[Axis | Domain] = [*spec.axes, *spec.domains]
        self._where = expressions.parse(spec.where) if spec.where else None
        self._only_if = {one.name: expressions.parse(one.only_if) for one in self._dimensions if one.only_if}
        conditions = [*([self._where] if self._where else []), *self._only_if.values()]
        named = {name for one in conditions for name in one.names}
        self._named = [(at, one) for at, one in enumerate(self._dimensions) if one.name in named]
        self._values = {one.name: column_of(one) for _, one in self._named if isinstance(one, Axis)}

    def kept(self, cube: Cube) -> Mask:
        """Which points `where` leaves in."""
        if self._where is None:
            return np.ones(len(cube), dtype=bool)
        try:
            return self._satisfied(self._where, cube)
        except ValueError:  # among mixed values some have an answer and some have none, so each is asked
            rows = cube.tolist()
            return np.array([expressions.leaves_in(self._spec.where, params_at(self._spec, row)) for row in rows])

    def places(self, cube: Cube) -> Places:
        """The place of each point on each axis, the first where the point does not have the parameter."""
        sizes = np.array([len(axis.values) for axis in self._spec.axes])
        places = np.minimum((cube * sizes).astype(np.int64), sizes - 1)
        try:
            present = present_in(self._only_if, self._columns(cube), len(cube)) if self._only_if else {}
        except ValueError:
            rows = cube.tolist()
            had = [params_at(self._spec, row) for row in rows]
            present = {name: np.array([name in params for params in had]) for name in self._only_if}
        for at, axis in enumerate(self._spec.axes):
            if axis.name in present:
                places[~present[axis.name], at] = 0
        return places

    def _satisfied(self, where: expressions.Expression, cube: Cube) -> Mask:
        columns = self._columns(cube)
        present = present_in(self._only_if, columns, len(cube))
        speaks = np.ones(len(cube), dtype=bool)
        for name in where.names:
            if name in present:
                speaks &= present[name]
        return ~speaks | true_of(column_expressions.evaluate(where, columns), len(cube))

    def _columns(self, cube: Cube) -> dict[str, Column]:
        return {one.name: self._column(one, cube[:, at]) for at, one in self._named}

    def _column(self, one: Axis | Domain, parts: Column) -> Column:
        if isinstance(one, Axis):
            places = np.minimum((parts * len(one.values)).astype(np.int64), len(one.values) - 1)
            return self._values[one.name][places]
        if one.is_log:
            low, high = math.log(one.low), math.log(one.high)
            return np.clip(np.exp(low + parts * (high - low)), one.low, one.high)
        if one.is_whole:
            return np.minimum((one.low + parts * (one.high - one.low + 1)).astype(np.int64), int(one.high))
        return np.minimum(one.low + parts * (one.high - one.low), one.high)
