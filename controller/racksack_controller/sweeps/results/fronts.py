"""The Pareto front of a sweep with several metrics: what no other point beats in all of them."""

from __future__ import annotations

import sqlite3

import numpy as np

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results import tables
from racksack_controller.sweeps.results.combinations import Floats, Ints, combine, pareto
from racksack_controller.sweeps.results.ranking import Ranking, Results, meeting
from racksack_controller.sweeps.results.tables import params_of_points
from racksack_jobspecs.sweep.spec import SweepSpec, combined_axes


def pareto_of(connection: sqlite3.Connection, sweep: Sweep, results: Results, count: int) -> Ranking:
    """The points that no other point beats in all metrics of the sweep, best in the first one first.

    Raises ValueError for a sweep with one metric.
    """
    metrics = sweep.sweep.metrics
    if len(metrics) < 2:
        raise ValueError("this sweep has one metric; a Pareto front needs two: --metric sharpe:max --metric loss:min")
    found = tables.table_of(results.segments, [one.name for one in metrics])
    columns = [found.numbers(one.name) for one in metrics]
    columns[0] = meeting(connection, sweep, results, found, columns[0])
    owners, values = _combined_columns(sweep.sweep, found.points, columns)
    signs = np.array([1.0 if one.direction == "max" else -1.0 for one in metrics])
    front = pareto(values * signs)
    points = [int(point) for point in owners[front][:count]]
    params = params_of_points(connection, sweep, points)
    own = {axis.name for axis in combined_axes(sweep.sweep)}
    rows = [
        {
            "point": point,
            "value": float(values[index, 0]),
            "params": {name: value for name, value in params.get(point, {}).items() if name not in own},
            "metrics": {one.name: float(value) for one, value in zip(metrics, values[index], strict=True)},
            "seconds": 0.0,
        }
        for point, index in zip(points, front.tolist(), strict=False)
    ]
    return Ranking(by=metrics[0].name, direction=metrics[0].direction, ranked=len(front), rows=rows)


def _combined_columns(spec: SweepSpec, points: Ints, columns: list[Floats]) -> tuple[Ints, Floats]:
    """Points, and a row of metrics for each: those of whole combinations where points are folds or repeats."""
    if spec.per_combination == 1:
        return points, np.column_stack(columns)
    combined = [
        combine(points, column, spec.per_combination, spec.aggregate, is_max=metric.direction == "max")
        for metric, column in zip(spec.metrics, columns, strict=True)
    ]
    common = combined[0].points
    for one in combined[1:]:
        common = np.intersect1d(common, one.points)
    return common, np.column_stack([one.values[np.searchsorted(one.points, common)] for one in combined])
