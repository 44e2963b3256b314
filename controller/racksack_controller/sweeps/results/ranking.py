"""Ranks the points of a sweep by a metric or an expression of metrics and parameters, while it runs or afterwards."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from racksack_controller.core.sweeps.records import CONTROL, MAIN, Progress, Sweep
from racksack_controller.sweeps.results import ledger, tables
from racksack_controller.sweeps.results.combinations import combine
from racksack_controller.sweeps.results.segments import Segment
from racksack_controller.sweeps.results.tables import Table, params_of_points
from racksack_controller.sweeps.search import column_expressions
from racksack_controller.sweeps.search.grid import Grid, column_of
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, combined_axes

COUNT_MAX = 100_000
_BLOCK = 16_384  # drawn points that are read at once
_BUILT_IN = ("point", "seconds")


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """The best points, best first."""

    by: str
    direction: str
    ranked: int  # how many points have a value
    rows: list[dict[str, Any]]  # point, value, params, metrics, seconds; control: metrics of the second run


class Results:
    """The results of a run, as they are stored, and the values that were made of them."""

    def __init__(self, run: int, segments: list[Segment]) -> None:
        self.run = run
        self.segments = segments
        self.values: dict[str, tuple[Table, Any]] = {}  # by a metric or expression

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics."""
        return list(dict.fromkeys(column[0] for segment in self.segments for column in segment.columns))


class Order(msgspec.Struct, frozen=True):
    """What to rank by."""

    text: str
    is_max: bool


def order_of(spec: SweepSpec, by: str | None) -> Order:
    """`sharpe`, `sharpe:min`, `sharpe / (1 + drawdown)`; nothing: the sweep's first metric.

    The ending `:max` or `:min` says whether more is better. Without one it is as for the metric of the sweep that the
    expression names, and for the sweep's first metric where it names none of them.
    """
    directions = {metric.name: metric.direction for metric in spec.metrics}
    if not by:
        return Order(spec.metrics[0].name, spec.metrics[0].direction == "max")
    text, colon, ending = by.rpartition(":")
    if colon and ending in ("max", "min"):
        return Order(text.strip(), ending == "max")
    named = [one for one in _names(by) if one in directions]
    return Order(by.strip(), directions[(named or [spec.metrics[0].name])[0]] == "max")


def _names(expression: str) -> list[str]:
    """The names in an expression, in their order, whatever else is wrong with it; also one that is a whole metric."""
    return [expression.strip(), *re.findall(r"[A-Za-z_]\w*", expression)]


def rank(
    connection: sqlite3.Connection,
    sweep: Sweep,
    progress: Progress,
    *,
    by: str | None = None,
    count: int = 10,
    run: int = MAIN,
) -> Ranking:
    """The best `count` points of a run. Raises ValueError with a sentence for an expression that is wrong."""
    return rank_of(connection, sweep, progress, results_of(connection, sweep, run), by=by, count=count)


def rank_of(
    connection: sqlite3.Connection,
    sweep: Sweep,
    progress: Progress,
    results: Results,
    *,
    by: str | None = None,
    count: int = 10,
) -> Ranking:
    """The best `count` points of results that were read. Raises ValueError."""
    order, run = order_of(sweep.sweep, by), results.run
    found, values = values_by(connection, sweep, results, order.text)
    values = meeting(connection, sweep, results, found, values)
    if sweep.sweep.per_combination > 1:
        return _rank_combinations(connection, sweep, results, found, values, order, count)
    indices = tables.best(values, found.points, min(count, COUNT_MAX), is_max=order.is_max)
    points = [int(point) for point in found.points[indices]]
    params = params_of_points(connection, sweep, points)
    metrics = tables.rows_among(results.segments, points)
    control = {}
    if run == MAIN and progress.run == CONTROL:
        control = tables.rows_of(connection, sweep.id, points, CONTROL)
    rows: list[dict[str, Any]] = []
    for point, index in zip(points, indices.tolist(), strict=True):
        row: dict[str, Any] = {
            "point": point,
            "value": float(values[index]),
            "params": params.get(point, {}),
            "metrics": metrics.get(point, {}),
            "seconds": float(found.seconds[index]),
        }
        rows.append(row | {"control": control[point]} if point in control else row)
    ranked = int(np.count_nonzero(~np.isnan(values)))
    return Ranking(by=order.text, direction="max" if order.is_max else "min", ranked=ranked, rows=rows)


def _rank_combinations(
    connection: sqlite3.Connection,
    sweep: Sweep,
    results: Results,
    found: Table,
    values: npt.NDArray[np.float64],
    order: Order,
    count: int,
) -> Ranking:
    """The best combinations, each over all its folds and repeats; `point` is the first point of each."""
    spec, size = sweep.sweep, sweep.sweep.per_combination
    combined = combine(found.points, values, size, spec.aggregate, is_max=order.is_max)
    indices = tables.best(combined.values, combined.points, min(count, COUNT_MAX), is_max=order.is_max)
    points = [int(point) for point in combined.points[indices]]
    params = params_of_points(connection, sweep, points)
    members = tables.rows_among(results.segments, [point + at for point in points for at in range(size)])
    own = {axis.name for axis in combined_axes(spec)}
    rows = [
        {
            "point": point,
            "value": float(combined.values[index]),
            "spread": float(combined.spreads[index]),
            "params": {name: value for name, value in params.get(point, {}).items() if name not in own},
            "metrics": _means([members.get(point + at, {}) for at in range(size)]),
            "seconds": 0.0,
        }
        for point, index in zip(points, indices.tolist(), strict=True)
    ]
    direction = "max" if order.is_max else "min"
    return Ranking(by=order.text, direction=direction, ranked=len(combined.points), rows=rows)


def _means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric that is a number everywhere."""
    names = [name for name in rows[0] if all(isinstance(row.get(name), int | float) for row in rows)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def meeting(connection: sqlite3.Connection, sweep: Sweep, results: Results, found: Table, values: Any) -> Any:  # noqa: ANN401
    """The values with nan for points that do not meet what the sweep requires."""
    if not sweep.sweep.requires or not len(found):
        return values
    expression = expressions.parse(sweep.sweep.requires)
    wanted = tables.table_of(results.segments, [name for name in expression.names if name in results.metrics])
    missing = [name for name in expression.names if name not in results.metrics]
    columns = _columns(connection, sweep, wanted, [name for name in expression.names if name not in missing])
    columns |= {name: np.full(len(wanted), np.nan) for name in missing}
    meets = _evaluated(expression, columns, len(wanted)) > 0
    kept = np.isin(found.points, wanted.points[meets])
    return np.where(kept, values, np.nan)


def results_of(connection: sqlite3.Connection, sweep: Sweep, run: int = MAIN) -> Results:
    """Read the results of a run, once for all that is made of them."""
    return Results(run, list(ledger.segments_of(connection, sweep.id, run)))


def values_by(connection: sqlite3.Connection, sweep: Sweep, results: Results, text: str) -> tuple[Table, Any]:
    """All results of a run and the value of a metric or expression for each; nan where there is none.

    Raises ValueError with a sentence.
    """
    if text not in results.values:
        results.values[text] = _valued(connection, sweep, results, text)
    return results.values[text]


def _valued(connection: sqlite3.Connection, sweep: Sweep, results: Results, text: str) -> tuple[Table, Any]:
    known = results.metrics
    if text in known or not known:
        if not known and text not in {metric.name for metric in sweep.sweep.metrics}:
            expressions.parse(text)
        found = tables.table_of(results.segments, [text])
        return found, found.numbers(text)
    if text in {metric.name for metric in sweep.sweep.metrics}:
        raise ValueError(
            f"the points report no metric {text}; they report {', '.join(known)}: "
            f"rank by one of these (--by {known[0]}), and run the sweep with --metric {known[0]}"
        )
    params = [axis.name for axis in sweep.sweep.axes] + [domain.name for domain in sweep.sweep.domains]
    expression = expressions.check(text, [*known, *params, *_BUILT_IN])
    found = tables.table_of(results.segments, [name for name in expression.names if name in known])
    columns = _columns(connection, sweep, found, expression.names)
    return found, _evaluated(expression, columns, len(found))


def _evaluated(expression: expressions.Expression, columns: dict[str, Any], count: int) -> Any:  # noqa: ANN401
    """The value for each point, some points at a time."""
    values = np.empty(count, dtype=np.float64)
    step = column_expressions.rows_at_once([expression], len(columns))
    for low in range(0, count, step):
        some = slice(low, min(low + step, count))
        part = {name: column[some] for name, column in columns.items()}
        values[some] = _numbers(column_expressions.evaluate(expression, part), some.stop - low)
    return values


def _columns(connection: sqlite3.Connection, sweep: Sweep, found: Table, names: Iterable[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    missing = []
    for name in names:
        if name in found.metrics:
            column = found.metrics[name]
            columns[name] = column if column.dtype.kind != "O" or _has_text(column) else found.numbers(name)
        elif name == "point":
            columns[name] = found.points
        elif name == "seconds":
            columns[name] = found.seconds.astype(np.float64)
        else:
            missing.append(name)
    return columns | param_columns(connection, sweep, found.points, missing) if missing else columns


def param_columns(connection: sqlite3.Connection, sweep: Sweep, points: Any, names: Iterable[str]) -> dict[str, Any]:  # noqa: ANN401
    """The values of some parameters for these points; nan (None among texts) where a point does not have one."""
    spec, wanted = sweep.sweep, list(names)
    if is_drawn(spec):
        return _drawn_columns(connection, sweep, points, wanted)
    grid = Grid(spec)
    has = grid.present(points)
    places = zip(spec.axes, grid.indices(points), strict=True)
    return {axis.name: _taken(axis, place, has.get(axis.name)) for axis, place in places if axis.name in wanted}


def _taken(axis: Axis, place: Any, has: Any) -> Any:  # noqa: ANN401
    column = column_of(axis)[place]
    return column if has is None or has.all() else np.where(has, column, None if column.dtype == object else np.nan)


def _drawn_columns(connection: sqlite3.Connection, sweep: Sweep, points: Any, names: list[str]) -> dict[str, Any]:  # noqa: ANN401
    """Read in blocks, so that only what is asked for of a million drawn points is ever in memory."""
    columns = {name: np.full(len(points), None, dtype=object) for name in names}
    order = np.argsort(points, kind="stable")
    in_order = points[order]
    for low in range(0, int(points.max()) + 1 if len(points) else 0, _BLOCK):
        drawn = ledger.params_between(connection, sweep.id, low, low + _BLOCK)
        here = order[np.searchsorted(in_order, low) : np.searchsorted(in_order, low + _BLOCK)]
        of_points = [drawn.get(point, {}) for point in points[here].tolist()]
        for name, column in columns.items():
            column[here] = [params.get(name) for params in of_points]
    return {name: _plain(column) for name, column in columns.items()}


def _plain(column: Any) -> Any:  # noqa: ANN401
    """Numbers where all values are, with nan for none; else the values themselves."""
    is_numbers = all(value is None or isinstance(value, int | float) for value in column)
    return column.astype(np.float64) if is_numbers else column


def _has_text(column: Any) -> bool:  # noqa: ANN401
    return any(isinstance(value, str) for value in column)


def _numbers(value: Any, count: int) -> Any:  # noqa: ANN401
    """An expression's value as a number for each point."""
    try:
        found = np.array(np.broadcast_to(np.asarray(value), (count,)), dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("this expression gives no numbers; rank by numbers") from None
    found[~np.isfinite(found)] = np.nan
    return found
