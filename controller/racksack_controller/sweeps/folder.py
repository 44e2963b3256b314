"""What a sweep leaves in `returns/<sweep>/`: results.csv, best.json and summary.json."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from racksack_controller.core.sweep_records import CONTROL, MAIN, Failure, Progress, Sweep
from racksack_controller.returns import let_owner_read
from racksack_controller.sweeps import ledger, reading
from racksack_controller.sweeps.numbers import is_drawn
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.sweep.spec import Params, params_of

BEST = 100
BLOCK = 10_000  # rows that are made at once


def finisher(spool: Spool) -> Callable[[Sweep, Progress], Callable[[], None]]:
    """What writes the folder of a sweep, to be called in a thread of its own."""

    def make(sweep: Sweep, progress: Progress) -> Callable[[], None]:
        return lambda: write_folder(spool, sweep, progress)

    return make


def write_folder(spool: Spool, sweep: Sweep, progress: Progress) -> None:
    """Write beside, put in place. Raises OSError, sqlite3.Error, ReturnsError."""
    folder = spool.returns / f".receiving-sweep-{sweep.id}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    connection = sqlite3.connect(f"file:{spool.database}?mode=ro", uri=True)
    try:
        write_results(connection, sweep, MAIN, folder / "results.csv")
        if progress.run == CONTROL:
            write_results(connection, sweep, CONTROL, folder / "control.csv")
        best = best_rows(connection, sweep, BEST)
    finally:
        connection.close()
    (folder / "best.json").write_bytes(msgspec.json.format(msgspec.json.encode(best)) + b"\n")
    (folder / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary(sweep, progress))) + b"\n")
    let_owner_read(folder, sweep.owner)
    final = spool.returned(sweep.id)
    if final.exists():  # it was revived
        shutil.rmtree(final)
    folder.rename(final)


def summary(sweep: Sweep, progress: Progress) -> dict[str, object]:
    """What became of it, without its points."""
    return {
        "sweep": sweep.id,
        "name": sweep.spec.name,
        "owner": sweep.owner,
        "state": str(progress.state),
        "reason": progress.reason,
        "points": sweep.points_total,
        "done": progress.done,
        "failed": progress.failed,
        "run": "control" if progress.run == CONTROL else "main",
        "reused": progress.reused,
        "submitted_at_s": sweep.submitted_at_s,
        "started_at_s": progress.started_at_s,
        "ready_at_s": progress.ready_at_s,
        "ended_at_s": progress.ended_at_s,
        "snapshot": sweep.snapshot,
    }


def best_rows(connection: sqlite3.Connection, sweep: Sweep, count: int, run: int = MAIN) -> list[dict[str, object]]:
    """The best points by the first metric, each with its parameters and metrics."""
    metric = sweep.sweep.metrics[0]
    found = reading.table(connection, sweep.id, run)
    is_max = metric.direction == "max"
    indices = reading.best(found.numbers(metric.name), found.points, count, is_max=is_max)
    points = [int(point) for point in found.points[indices]]
    params = params_of_points(connection, sweep, points)
    return [
        {"point": point, "params": params.get(point, {}), "metrics": found.row(int(index))}
        for point, index in zip(points, indices, strict=True)
    ]


def params_of_points(connection: sqlite3.Connection, sweep: Sweep, points: Sequence[int]) -> dict[int, Params]:
    """The parameters of points: from their numbers, or as they were drawn."""
    spec = sweep.sweep
    if not is_drawn(spec):
        return {point: params_of(spec, point) for point in points}
    return reading.params_of_drawn(connection, sweep.id, points)


def write_results(connection: sqlite3.Connection, sweep: Sweep, run: int, path: Path) -> None:
    """All points of a run as CSV, in their order: number, parameters, metrics, seconds, and how it failed."""
    table = reading.table(connection, sweep.id, run)
    failures = ledger.failures_of(connection, sweep.id, run, waiting=False)
    metrics = list(table.metrics)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names: list[str] | None = None
        for rows in _blocks(table):
            points = [int(point) for point in table.points[rows]]
            params = params_of_points(connection, sweep, points)
            if names is None:
                names = _names(sweep, params)
                writer.writerow(["point", *names, *metrics, "seconds", "failure"])
            columns = [table.metrics[name][rows].tolist() for name in metrics]
            took = table.seconds[rows].tolist()
            for index, point in enumerate(points):
                own = params.get(point, {})
                values = ["" if column[index] is None else column[index] for column in columns]
                writer.writerow([point, *(own.get(name, "") for name in names), *values, f"{took[index]:.6g}", ""])
        if names is None:
            names = _names(sweep, params_of_points(connection, sweep, [one.point for one in failures[:1]]))
            writer.writerow(["point", *names, *metrics, "seconds", "failure"])
        for failure in failures:
            writer.writerow(_failed_row(connection, sweep, names, len(metrics), failure))


def _failed_row(
    connection: sqlite3.Connection, sweep: Sweep, names: Sequence[str], metrics: int, failure: Failure
) -> list[object]:
    own = params_of_points(connection, sweep, [failure.point]).get(failure.point, {})
    values = [own.get(name, "") for name in names]
    return [failure.point, *values, *[""] * metrics, f"{failure.seconds:.6g}", f"{failure.kind}: {failure.sentence}"]


def _names(sweep: Sweep, params: dict[int, Params]) -> list[str]:
    named = [axis.name for axis in sweep.sweep.axes] + [domain.name for domain in sweep.sweep.domains]
    found = dict.fromkeys(named)
    for own in params.values():
        found.update(dict.fromkeys(own))
    return list(found)


def _blocks(table: reading.Table) -> Iterator[np.ndarray[tuple[int], np.dtype[np.intp]]]:
    order = np.argsort(table.points, kind="stable")
    for first in range(0, len(order), BLOCK):
        yield order[first : first + BLOCK]
