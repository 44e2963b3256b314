"""What points report while they run, in the store: reports as columns, verdicts as rows. SQL alone, as in `ledger`."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np

from racksack_controller.core.sweeps.stopping import Verdict
from racksack_controller.sweeps.results.segments import Segment

STEP = "step"  # the column of steps

_encode = msgspec.json.Encoder().encode
_decode_columns = msgspec.json.Decoder(tuple[tuple[str, str, int], ...]).decode


def add_reports(connection: sqlite3.Connection, sweep: int, run: int, segments: Iterable[Segment]) -> None:
    """Reports that came in one frame each."""
    rows = []
    for one in segments:
        numbers = one.numbers()
        rows.append(
            (sweep, run, int(numbers.min()), int(numbers.max()), one.points, one.seconds_bytes,
             _encode(one.columns).decode(), one.data)
        )  # fmt: skip
    connection.executemany(
        "INSERT INTO sweep_reports (sweep, run, lowest, highest, points, seconds_bytes, columns, data) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def reports_of(connection: sqlite3.Connection, sweep: int, run: int, point: int | None = None) -> Iterator[Segment]:
    """The reports of a run, or those among which a point's are, in the order in which they came."""
    condition, values = "sweep = ? AND run = ?", [sweep, run]
    if point is not None:
        condition, values = condition + " AND lowest <= ? AND highest >= ?", [*values, point, point]
    sql = f"SELECT points, seconds_bytes, columns, data FROM sweep_reports WHERE {condition} ORDER BY id"  # noqa: S608 - ours
    for points, seconds_bytes, columns, data in connection.execute(sql, values):
        yield Segment(
            points=points, first=None, seconds_bytes=seconds_bytes, columns=_decode_columns(columns), data=data
        )


def curve_of(connection: sqlite3.Connection, sweep: int, run: int, point: int) -> list[dict[str, Any]]:
    """What one point has reported, by step: `[{step, seconds, metrics}]`. A later try takes the place of an earlier."""
    found: dict[float, dict[str, Any]] = {}
    for segment in reports_of(connection, sweep, run, point):
        rows = np.flatnonzero(segment.numbers() == point).tolist()
        columns = dict(segment.metric_columns())
        steps = columns.pop(STEP)
        seconds = segment.seconds()
        for row in rows:
            metrics = {name: _plain(column[row]) for name, column in columns.items()}
            known = {name: value for name, value in metrics.items() if value is not None}
            step = float(steps[row])
            found[step] = {"step": step, "seconds": float(seconds[row]), "metrics": known}
    return [found[step] for step in sorted(found)]


def curves_of(
    connection: sqlite3.Connection, sweep: int, run: int, metric: str, points: Iterable[int]
) -> dict[int, list[tuple[float, float]]]:
    """(step, value) of a metric for each of some points, by step."""
    wanted = set(points)
    chosen = np.array(sorted(wanted), dtype=np.int64)
    found: dict[int, dict[float, float]] = {point: {} for point in wanted}
    for segment in reports_of(connection, sweep, run) if wanted else ():
        numbers = segment.numbers()
        columns = dict(segment.metric_columns())
        if metric not in columns:
            continue
        for row in np.flatnonzero(np.isin(numbers, chosen)).tolist():
            value = columns[metric][row]
            if isinstance(value, int | float | np.number) and math.isfinite(value):
                found[int(numbers[row])][float(columns[STEP][row])] = float(value)
    return {point: sorted(steps.items()) for point, steps in found.items() if steps}


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of a column
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


# Verdicts


def put_verdicts(connection: sqlite3.Connection, sweep: int, run: int, verdicts: Iterable[Verdict]) -> None:
    """What was decided at rungs."""
    connection.executemany(
        "INSERT OR IGNORE INTO sweep_rungs VALUES (?, ?, ?, ?, ?, ?)",
        [
            (sweep, run, one.point, one.rung, None if math.isnan(one.value) else one.value, int(one.stop))
            for one in verdicts
        ],
    )


def verdicts_of(connection: sqlite3.Connection, sweep: int, run: int) -> Iterator[Verdict]:
    """All that was decided in a run."""
    rows = connection.execute(
        "SELECT point, rung, value, stop FROM sweep_rungs WHERE sweep = ? AND run = ?", (sweep, run)
    )
    for point, rung, value, stop in rows:
        yield Verdict(point=point, rung=rung, value=math.nan if value is None else value, stop=bool(stop))


def stop_of(connection: sqlite3.Connection, sweep: int, run: int, point: int) -> int | None:
    """The rung at which a point was stopped; None for one that was not."""
    row = connection.execute(
        "SELECT rung FROM sweep_rungs WHERE sweep = ? AND run = ? AND point = ? AND stop = 1", (sweep, run, point)
    ).fetchone()
    return None if row is None else int(row[0])


def remove_reports(connection: sqlite3.Connection, sweep: int, run: int) -> None:
    """Forget what the points of a run have reported."""
    connection.execute("DELETE FROM sweep_reports WHERE sweep = ? AND run = ?", (sweep, run))
    connection.execute("DELETE FROM sweep_rungs WHERE sweep = ? AND run = ?", (sweep, run))
