"""What the plots of a sweep show: figures between 0 and 1 for whatever draws them. Nothing here knows of SVG.

A million results are looked at as columns, and what is drawn is bounded: a sample of points with the best ones always
among them, a grid of cells, the steps of the best value so far.
"""

from __future__ import annotations

import sqlite3

import msgspec
import numpy as np

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results import ranking, tables
from racksack_controller.sweeps.results.scales import PLACES_DIGITS, SOME, Column, Scale, places, text_of
from racksack_controller.sweeps.search.numbering import is_drawn

DOTS_MAX = 400
LINES_MAX = 160
BEST_LINES = 20
CELLS_MAX = SOME
BINS = 60  # places at which the best and the mean are drawn
LEVELS = 10
STEPS_MAX = 300
PARAMETERS_MAX = 12
LOOKED_AT_MAX = 50_000
DRAWN_LOOKED_AT_MAX = 3_000  # parameters of a search are read one by one

Line = tuple[bool, list[float | None]]  # whether it is one of the best; its height on each scale, None: it has none


class Height(msgspec.Struct, frozen=True):
    """The metric's axis, from 0 at its low to 1 at its high end."""

    low: float
    high: float
    is_max: bool

    def of(self, values: Column) -> Column:
        """The height of each value; those beyond an end are drawn there."""
        return np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0)

    def of_worth(self, worth: Column) -> Column:
        """The same of values of which more is always better."""
        return self.of(worth if self.is_max else -worth)


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
    good = tables.best(values, points, DOTS_MAX // 4, is_max=order.is_max)
    chosen = _sample(sweep, len(values), good)
    height = _height(values, is_max=order.is_max)
    heights = height.of(values[chosen])
    best = np.zeros(len(values), dtype=bool)
    best[good[:BEST_LINES]] = True
    scales, columns = places(connection, sweep, points[chosen])
    shown = list(zip(scales, columns, strict=True))[:PARAMETERS_MAX]
    worth = values[chosen] if order.is_max else -values[chosen]
    return Plots(
        metric=order.text,
        is_max=order.is_max,
        low=text_of(height.low),
        high=text_of(height.high),
        points=len(values),
        sampled=len(chosen),
        scatters=[_scatter(scale, column, heights, worth, best[chosen], height) for scale, column in shown],
        heat=_heat(shown, worth, order.is_max, pair),
        scales=[
            *(scale for scale, _ in shown),
            Scale(name=order.text, low=text_of(height.low), high=text_of(height.high)),
        ],
        lines=_lines([column for _, column in shown], heights, best[chosen]),
        convergence=_convergence(sweep, points, values, height),
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


def _height(values: Column, *, is_max: bool) -> Height:
    """The metric's axis, between the best value, and the worst but for the few that would flatten all others."""
    low, high = float(values.min()), float(values.max())
    if len(values) >= 100:
        some = np.sort(values[:: max(1, len(values) // LOOKED_AT_MAX)])
        worst = float(some[len(some) // 50] if is_max else some[-1 - len(some) // 50])
        narrow = high - worst if is_max else worst - low
        if narrow > 0 and high - low > 5 * narrow:
            low, high = (worst, high) if is_max else (low, worst)
    return Height(low, high, is_max) if high > low else Height(low - 0.5, low + 0.5, is_max)


def _scatter(scale: Scale, column: Column, heights: Column, worth: Column, best: Column, height: Height) -> Scatter:
    has = np.flatnonzero(~np.isnan(column))
    even = has[np.linspace(0, len(has) - 1, min(DOTS_MAX, len(has))).astype(np.int64)] if len(has) else has
    dots = np.union1d(even, has[best[has]])
    bins = np.round(column[has] * BINS).astype(np.int64)
    counts = np.bincount(bins, minlength=BINS + 1)
    at = np.flatnonzero(counts)
    top = np.full(BINS + 1, -np.inf)
    np.maximum.at(top, bins, worth[has])
    top, mean = top[at], np.bincount(bins, worth[has], minlength=BINS + 1)[at] / counts[at]
    return Scatter(
        scale=scale,
        dots=[
            (_r(x), _r(y), bool(b))
            for x, y, b in zip(column[dots].tolist(), heights[dots].tolist(), best[dots].tolist(), strict=True)
        ],
        best=[(_r(x / BINS), _r(y)) for x, y in zip(at.tolist(), height.of_worth(top).tolist(), strict=True)],
        mean=[(_r(x / BINS), _r(y)) for x, y in zip(at.tolist(), height.of_worth(mean).tolist(), strict=True)],
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
    columns, i = _cells(across, x[has])
    rows, j = _cells(up, y[has])
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
            (int(cell) // rows, int(cell) % rows, int(level), text_of(sign * float(cells[cell])))
            for cell, level in zip(filled.tolist(), levels.tolist(), strict=True)
        ],
    )


def _cells(scale: Scale, places: Column) -> tuple[int, Column]:
    """Which cell each place falls into: one for each value of the scale where it has few, also for one that no point
    has yet.
    """
    if scale.places:
        return len(scale.places), np.searchsorted(scale.places, np.round(places, PLACES_DIGITS))
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


def _convergence(sweep: Sweep, points: Column, values: Column, height: Height) -> list[tuple[float, float]]:
    """The best value so far: in the order of drawing, of a grid in the order in which results came."""
    ordered = values[np.argsort(points, kind="stable")] if is_drawn(sweep.sweep) else values
    so_far = np.maximum.accumulate(ordered) if height.is_max else np.minimum.accumulate(ordered)
    rises = np.flatnonzero(so_far[1:] != so_far[:-1]) + 1
    steps = np.concatenate(([0], rises, [len(so_far) - 1]))
    if len(steps) > STEPS_MAX:
        steps = steps[np.linspace(0, len(steps) - 1, STEPS_MAX).astype(np.int64)]
    heights = height.of(so_far[steps])
    last = max(1, len(so_far) - 1)
    return [(_r(step / last), _r(height)) for step, height in zip(steps.tolist(), heights.tolist(), strict=True)]


def _r(value: float) -> float:
    return round(value, 4)
