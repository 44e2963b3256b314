"""The parameters of a sweep as scales from 0 to 1, and the place of each point on them."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import numpy as np

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results.tables import params_of_points
from racksack_controller.sweeps.search.grid import Grid
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_jobspecs.sweep.parse import is_ordered
from racksack_jobspecs.sweep.spec import Axis, Domain

Column = Any

SOME = 32  # values of a parameter that are told one by one
PLACES_DIGITS = 9  # places that agree in so many are one


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter as a line from 0 to 1, with the words at its ends."""

    name: str
    low: str
    high: str
    ticks: list[tuple[float, str]] = []  # of few values: where each is
    places: list[float] = []  # of all its values, in order, where it has but some; an interval has none


def places(connection: sqlite3.Connection, sweep: Sweep, points: Column) -> tuple[list[Scale], list[Column]]:
    """Each parameter as a scale, and the place of each point on it; nan where a point does not have it."""
    spec = sweep.sweep
    if spec.range is not None or spec.scripts:
        total = max(1, sweep.numbers - 1)
        return [Scale(name="point", low="0", high=str(total))], [points / total]
    if not is_drawn(spec):
        grid = Grid(spec)
        has = grid.present(points)
        kept = [(axis, at) for axis, at in zip(spec.axes, grid.indices(points), strict=True) if len(axis.values) > 1]
        columns = [np.where(has.get(axis.name, True), _on_axis(axis)[place], np.nan) for axis, place in kept]
        return [_scale(axis) for axis, _ in kept], columns
    drawn = params_of_points(connection, sweep, [int(point) for point in points])
    params = [drawn.get(int(point), {}) for point in points]
    dimensions: list[Axis | Domain] = [axis for axis in spec.axes if len(axis.values) > 1]
    dimensions += spec.domains
    return [_scale(one) for one in dimensions], [_column(one, params) for one in dimensions]


def _scale(one: Axis | Domain) -> Scale:
    if isinstance(one, Domain):
        return Scale(name=one.name, low=text_of(one.low), high=text_of(one.high))
    values, at = one.values, _on_axis(one)
    found = np.unique(np.round(at, PLACES_DIGITS)).tolist() if len(values) <= SOME else []
    if is_ordered(one):
        low, high = min(values), max(values)  # type: ignore[type-var]
        return Scale(name=one.name, low=text_of(low), high=text_of(high), places=found)
    ticks = [(float(at[index]), str(value)) for index, value in enumerate(values)] if len(values) <= 8 else []
    return Scale(name=one.name, low=str(values[0]), high=str(values[-1]), ticks=ticks, places=found)


def _on_axis(axis: Axis) -> Column:
    """The place of each value: by its size on a line of numbers (by its logarithm where they grow so), else in turn."""
    if not is_ordered(axis):
        return np.linspace(0.0, 1.0, len(axis.values))
    numbers = np.array(axis.values, dtype=np.float64)
    if numbers.min() > 0 and len(numbers) > 2 and _spread(np.log(numbers)) < _spread(numbers):
        numbers = np.log(numbers)
    return (numbers - numbers.min()) / (numbers.max() - numbers.min())


def _spread(numbers: Column) -> float:
    """How unequal the steps between them are."""
    steps = np.abs(np.diff(numbers))
    return float(steps.std() / steps.mean())


def _column(one: Axis | Domain, params: list[dict[str, Any]]) -> Column:
    if isinstance(one, Axis):
        at = {(type(value), value): place for value, place in zip(one.values, _on_axis(one).tolist(), strict=True)}
        return np.array([at.get((type(own.get(one.name)), own.get(one.name)), np.nan) for own in params])
    values = np.array([own.get(one.name, np.nan) for own in params], dtype=np.float64)
    if one.is_log:
        return (np.log(values) - np.log(one.low)) / (np.log(one.high) - np.log(one.low))
    return (values - one.low) / (one.high - one.low)


def text_of(value: object) -> str:
    """A value for the end of a scale."""
    return f"{value + 0.0:.4g}" if isinstance(value, float) else str(value)  # + 0.0: never -0
