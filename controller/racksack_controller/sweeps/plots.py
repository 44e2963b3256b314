"""What the plots of a sweep show: figures between 0 and 1 for whatever draws them. Nothing here knows of SVG.

A million results are looked at as columns, and what is drawn is bounded: a sample of points with the best ones always
among them, a grid of cells, the steps of the best value so far.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import numpy as np

from racksack_controller.core.sweep_records import Sweep
from racksack_controller.sweeps import ranking, reading
from racksack_controller.sweeps.allowed import Grid
from racksack_controller.sweeps.numbers import is_drawn
from racksack_controller.sweeps.reading import params_of_points
from racksack_jobspecs.sweep.parse import is_ordered
from racksack_jobspecs.sweep.spec import Axis, Domain

DOTS_MAX = 400
LINES_MAX = 160
BEST_LINES = 20
CELLS_MAX = 32
BINS = 60  # places at which the best and the mean are drawn
LEVELS = 10
STEPS_MAX = 300
PARAMETERS_MAX = 12
LOOKED_AT_MAX = 50_000
DRAWN_LOOKED_AT_MAX = 3_000  # parameters of a search are read one by one

Column = Any
Line = tuple[bool, list[float | None]]  # whether it is one of the best; its height on each scale, None: it has none


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter as a line from 0 to 1, with the words at its ends."""

    name: str
    low: str
    high: str
    ticks: list[tuple[float, str]] = []  # of few values: where each is


class Scatter(msgspec.Struct, frozen=True, kw_only=True):
    """The metric against one parameter."""

    scale: Scale
    dots: list[tuple[float, float, bool]]  # place, height, and whether it is one of the best
    best: list[tuple[float, float]]  # the best value at each place
    mean: list[tuple[float, float]]


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """The best value for each pair of places of two parameters."""

    across: Scale
    up: Scale
    columns: int
    rows: int
    cells: list[tuple[int, int, int, str]]  # column, row (from below), level from 0 to LEVELS - 1, value


class Plots(msgspec.Struct, frozen=True, kw_only=True):
    """All plots of a run."""

    metric: str
    is_max: bool
    low: str  # of the metric's axis
    high: str
    points: int  # that have a value
    sampled: int  # that were looked at
    scatters: list[Scatter]
    heat: HeatMap | None
    scales: list[Scale]  # of the parallel coordinates, the metric last
    lines: list[Line]
    convergence: list[tuple[float, float]]
    choices: list[str]  # parameters that the heat map can show

    @property
    def has_partial_lines(self) -> bool:
        """Whether any point that is shown lacks a parameter."""
        return any(None in heights for _, heights in self.lines)


def plots(
    connection: sqlite3.Connection,
    sweep: Sweep,
    results: ranking.Results,
    by: str | None = None,
    pair: tuple[str, str] | None = None,
) -> Plots | None:
    """The plots of a run by a metric or an expression; None before the first value. Raises ValueError."""
    order = ranking.order_of(sweep.sweep, by)
    found, values = ranking.values_by(connection, sweep, results, order.text)
    points, has_value = found.points, np.isfinite(values)
    if not has_value.any():
        return None
    if not has_value.all():
        values, points = values[has_value], points[has_value]
    good = reading.best(values, points, DOTS_MAX // 4, is_max=order.is_max)
    chosen = _sample(sweep, len(values), good)
    low, high = _ends(values, is_max=order.is_max)
    heights = _between(values[chosen], low, high)
    best = np.zeros(len(values), dtype=bool)
    best[good[:BEST_LINES]] = True
    scales, columns = _places(connection, sweep, points[chosen])
    shown = list(zip(scales, columns, strict=True))[:PARAMETERS_MAX]
    worth = values[chosen] if order.is_max else -values[chosen]
    return Plots(
        metric=order.text,
        is_max=order.is_max,
        low=_text(low),
        high=_text(high),
        points=len(values),
        sampled=len(chosen),
        scatters=[
            _scatter(scale, column, heights, worth, best[chosen], low, high, order.is_max) for scale, column in shown
        ],
        heat=_heat(shown, worth, order.is_max, pair),
        scales=[*(scale for scale, _ in shown), Scale(name=order.text, low=_text(low), high=_text(high))],
        lines=_lines([column for _, column in shown], heights, best[chosen]),
        convergence=_convergence(sweep, points, values, low, high, is_max=order.is_max),
        choices=[scale.name for scale in scales],
    )


def _sample(sweep: Sweep, count: int, good: Column) -> Column:
    """Which points are looked at: the same random ones each time (every n-th would see a pattern in a grid), and the
    best.
    """
    most = DRAWN_LOOKED_AT_MAX if is_drawn(sweep.sweep) else LOOKED_AT_MAX
    if count <= most:
        return np.arange(count)
    return np.union1d(np.random.default_rng(0).integers(0, count, most), good)


def _ends(values: Column, *, is_max: bool) -> tuple[float, float]:
    """The ends of the metric's axis: the best value, and the worst but for the few that would flatten all others."""
    low, high = float(values.min()), float(values.max())
    if len(values) >= 100:
        some = np.sort(values[:: max(1, len(values) // LOOKED_AT_MAX)])
        worst = float(some[len(some) // 50] if is_max else some[-1 - len(some) // 50])
        narrow = high - worst if is_max else worst - low
        if narrow > 0 and high - low > 5 * narrow:
            low, high = (worst, high) if is_max else (low, worst)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _between(values: Column, low: float, high: float) -> Column:
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def _places(connection: sqlite3.Connection, sweep: Sweep, points: Column) -> tuple[list[Scale], list[Column]]:
    """Each parameter as a scale, and the place of each point on it; nan where a point does not have it."""
    spec = sweep.sweep
    if spec.range is not None or spec.scripts:
        total = max(1, sweep.numbers - 1)
        return [Scale(name="point", low="0", high=str(total))], [points / total]
    if not is_drawn(spec):
        grid = Grid(spec)
        has = grid.present(points)
        kept = [(axis, at) for axis, at in zip(spec.axes, grid.indices(points), strict=True) if len(axis.values) > 1]
        columns = [np.where(has[axis.name], _on_axis(axis)[place], np.nan) for axis, place in kept]
        return [_scale(axis) for axis, _ in kept], columns
    drawn = params_of_points(connection, sweep, [int(point) for point in points])
    params = [drawn.get(int(point), {}) for point in points]
    dimensions: list[Axis | Domain] = [axis for axis in spec.axes if len(axis.values) > 1]
    dimensions += spec.domains
    return [_scale(one) for one in dimensions], [_column(one, params) for one in dimensions]


def _scale(one: Axis | Domain) -> Scale:
    if isinstance(one, Domain):
        return Scale(name=one.name, low=_text(one.low), high=_text(one.high))
    values = one.values
    if is_ordered(one):
        return Scale(name=one.name, low=_text(min(values)), high=_text(max(values)))  # type: ignore[type-var]
    at = _on_axis(one)
    ticks = [(float(at[index]), str(value)) for index, value in enumerate(values)] if len(values) <= 8 else []
    return Scale(name=one.name, low=str(values[0]), high=str(values[-1]), ticks=ticks)


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


def _scatter(
    scale: Scale, column: Column, heights: Column, worth: Column, best: Column, low: float, high: float, is_max: bool
) -> Scatter:
    has = np.flatnonzero(~np.isnan(column))
    even = has[np.linspace(0, len(has) - 1, min(DOTS_MAX, len(has))).astype(np.int64)] if len(has) else has
    dots = np.union1d(even, has[best[has]])
    bins = np.round(column[has] * BINS).astype(np.int64)
    counts = np.bincount(bins, minlength=BINS + 1)
    at = np.flatnonzero(counts)
    top = np.full(BINS + 1, -np.inf)
    np.maximum.at(top, bins, worth[has])
    top, mean = top[at], np.bincount(bins, worth[has], minlength=BINS + 1)[at] / counts[at]
    sign = 1.0 if is_max else -1.0
    return Scatter(
        scale=scale,
        dots=[
            (_r(x), _r(y), bool(b))
            for x, y, b in zip(column[dots].tolist(), heights[dots].tolist(), best[dots].tolist(), strict=True)
        ],
        best=[
            (_r(x / BINS), _r(y)) for x, y in zip(at.tolist(), _between(sign * top, low, high).tolist(), strict=True)
        ],
        mean=[
            (_r(x / BINS), _r(y)) for x, y in zip(at.tolist(), _between(sign * mean, low, high).tolist(), strict=True)
        ],
    )


def _heat(
    shown: list[tuple[Scale, Column]], worth: Column, is_max: bool, pair: tuple[str, str] | None
) -> HeatMap | None:
    named = {scale.name: (scale, column) for scale, column in shown}
    if pair is None or pair[0] == pair[1] or not all(name in named for name in pair):
        pair = tuple(named)[:2] if len(named) >= 2 else None  # type: ignore[assignment]
    if pair is None:
        return None
    (across, x), (up, y) = named[pair[0]], named[pair[1]]
    has = ~(np.isnan(x) | np.isnan(y))
    columns, i = _cells(x[has])
    rows, j = _cells(y[has])
    cells = np.full(columns * rows, -np.inf)
    np.maximum.at(cells, i * rows + j, worth[has])
    filled = np.flatnonzero(np.isfinite(cells))
    if not len(filled):
        return None
    ranks = np.argsort(np.argsort(cells[filled], kind="stable"), kind="stable")
    levels = ranks * LEVELS // len(filled)
    sign = 1.0 if is_max else -1.0
    return HeatMap(
        across=across,
        up=up,
        columns=columns,
        rows=rows,
        cells=[
            (int(cell) // rows, int(cell) % rows, int(level), _text(sign * float(cells[cell])))
            for cell, level in zip(filled.tolist(), levels.tolist(), strict=True)
        ],
    )


def _cells(places: Column) -> tuple[int, Column]:
    """Which cell each place falls into: one for each value where there are few."""
    distinct, index = np.unique(np.round(places, 9), return_inverse=True)
    if len(distinct) <= CELLS_MAX:
        return max(1, len(distinct)), index
    return CELLS_MAX, np.minimum((places * CELLS_MAX).astype(np.int64), CELLS_MAX - 1)


def _lines(columns: list[Column], heights: Column, best: Column) -> list[Line]:
    """Some points, the best last; a point need not have every parameter."""
    if not columns:
        return []
    places = np.stack([*columns, heights])
    shown = np.flatnonzero(np.count_nonzero(~np.isnan(places), axis=0) > 1)
    if not len(shown):
        return []
    even = shown[np.linspace(0, len(shown) - 1, min(LINES_MAX, len(shown))).astype(np.int64)]
    chosen = [*even[~best[even]].tolist(), *shown[best[shown]].tolist()]
    return [
        (bool(best[index]), [None if np.isnan(at) else _r(float(at)) for at in places[:, index]]) for index in chosen
    ]


def _convergence(
    sweep: Sweep, points: Column, values: Column, low: float, high: float, *, is_max: bool
) -> list[tuple[float, float]]:
    """The best value so far: in the order of drawing, of a grid in the order in which results came."""
    ordered = values[np.argsort(points, kind="stable")] if is_drawn(sweep.sweep) else values
    so_far = np.maximum.accumulate(ordered) if is_max else np.minimum.accumulate(ordered)
    rises = np.flatnonzero(so_far[1:] != so_far[:-1]) + 1
    steps = np.concatenate(([0], rises, [len(so_far) - 1]))
    if len(steps) > STEPS_MAX:
        steps = steps[np.linspace(0, len(steps) - 1, STEPS_MAX).astype(np.int64)]
    heights = _between(so_far[steps], low, high)
    last = max(1, len(so_far) - 1)
    return [(_r(step / last), _r(height)) for step, height in zip(steps.tolist(), heights.tolist(), strict=True)]


def _r(value: float) -> float:
    return round(value, 4)


def _text(value: object) -> str:
    return f"{value + 0.0:.4g}" if isinstance(value, float) else str(value)  # + 0.0: never -0
