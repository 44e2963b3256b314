"""All points of a sweep as CSV or as JSON lines, in the order of their numbers, a block at a time."""

from __future__ import annotations

import csv
import io
import math
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results import ledger
from racksack_controller.sweeps.results.tables import Table, params_of_points
from racksack_controller.sweeps.results.windows import InOrder
from racksack_jobspecs.sweep.spec import Params

BLOCK = 5_000
_encode = msgspec.json.Encoder().encode


class Export:
    """The results of one run; `next_block` is called in a reading thread until it gives nothing.

    All calls get one connection, on which the store does not change meanwhile (`store.open_snapshot`).
    """

    def __init__(self, connection: sqlite3.Connection, sweep: Sweep, run: int, *, as_csv: bool) -> None:
        self._sweep = sweep
        self._results = InOrder(connection, sweep.id, run)
        self._table: Table | None = self._results.next_table(connection)
        self._failures = ledger.failures_of(connection, sweep.id, run, waiting=False)
        self._params = param_names(sweep)
        self._as_csv = as_csv
        self._at = 0  # in the table
        self._is_begun = False

    def next_block(self, connection: sqlite3.Connection) -> bytes:
        """Some lines; empty at the end."""
        rows = self._done(connection) if self._table is not None else self._failed(connection)
        if not self._as_csv:
            return b"".join(_encode(row) + b"\n" for row in rows)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self._is_begun:
            self._is_begun = True
            names = map(_cell, (*self._params, *self._results.metrics))  # a metric is called what a job calls it
            writer.writerow(["point", *names, "seconds", "failure"])
        writer.writerows(self._line(row) for row in rows)
        return text.getvalue().encode()

    def _done(self, connection: sqlite3.Connection) -> list[dict[str, Any]]:
        """Some of the points that have results."""
        assert self._table is not None  # noqa: S101 - the caller looked
        table, first = self._table, self._at
        self._at = min(first + BLOCK, len(table))
        rows = slice(first, self._at)
        points = table.points[rows].tolist()
        params = params_of_points(connection, self._sweep, points)
        columns = {name: column[rows].tolist() for name, column in table.metrics.items()}
        seconds = table.seconds[rows].tolist()
        if self._at == len(table):
            self._table, self._at = self._results.next_table(connection), 0
        found = []
        for index, point in enumerate(points):
            values = {name: column[index] for name, column in columns.items()}
            known = {name: value for name, value in values.items() if not _is_absent(value)}
            found.append(_row(point, params.get(point, {}), known, seconds[index], None))
        return found

    def _failed(self, connection: sqlite3.Connection) -> Iterator[dict[str, Any]]:
        block, self._failures = self._failures[:BLOCK], self._failures[BLOCK:]
        params = params_of_points(connection, self._sweep, [failure.point for failure in block])
        for failure in block:
            sentence = f"{failure.kind}: {failure.sentence}"
            yield _row(failure.point, params.get(failure.point, {}), {}, failure.seconds, sentence)

    def _line(self, row: dict[str, Any]) -> list[Any]:
        params = [_cell(row["params"].get(name)) for name in self._params]
        metrics = [_cell(row["metrics"].get(name)) for name in self._results.metrics]
        return [row["point"], *params, *metrics, f"{row['seconds']:.6g}", _cell(row["failure"] or "")]


def param_names(sweep: Sweep) -> list[str]:
    """The columns of parameters."""
    spec = sweep.sweep
    if spec.range is not None:
        return ["start", "end"]
    if spec.scripts:
        return ["job_id", "script", "args"]
    return [axis.name for axis in spec.axes] + [domain.name for domain in spec.domains]


def _row(point: int, params: Params, metrics: dict[str, Any], seconds: float, failure: str | None) -> dict[str, Any]:
    return {"point": point, "params": params, "metrics": metrics, "seconds": seconds, "failure": failure}


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: object) -> object:
    """A value for a spreadsheet: what it could take for a formula is made a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return _encode(value).decode()
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
