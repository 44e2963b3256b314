"""The curves of a sweep's best points as a plot: figures between 0 and 1, as in `plots`."""

from __future__ import annotations

import sqlite3

import msgspec

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results import reports
from racksack_controller.sweeps.results.scales import text_of

CURVES_MAX = 60
STEPS_MAX = 200


class CurvePlot(msgspec.Struct, frozen=True, kw_only=True):
    """Curves of a metric over steps."""

    metric: str
    low: str
    high: str
    first: str  # step
    last: str
    curves: list[tuple[int, bool, list[tuple[float, float]]]]  # point, whether it is the best, (step, value) places


def curve_plot(connection: sqlite3.Connection, sweep: Sweep, run: int, points: list[int]) -> CurvePlot | None:
    """The curves of these points, the best first; None when they reported nothing."""
    metric = sweep.sweep.metrics[0].name
    found = reports.curves_of(connection, sweep.id, run, metric, points[:CURVES_MAX])
    steps = [step for curve in found.values() for step, _ in curve]
    values = [value for curve in found.values() for _, value in curve]
    if not steps:
        return None
    left, right, low, high = min(steps), max(steps), min(values), max(values)
    across, up = (right - left) or 1.0, (high - low) or 1.0
    drawn = [point for point in points if point in found]
    curves = []
    for point in reversed(drawn):  # the best one last, above the others
        curve = found[point][:: -(-len(found[point]) // STEPS_MAX)]
        places = [((step - left) / across, (value - low) / up) for step, value in curve]
        curves.append((point, point == drawn[0], places))
    ends = {"low": text_of(low), "high": text_of(high), "first": text_of(left), "last": text_of(right)}
    return CurvePlot(metric=metric, curves=curves, **ends)
