"""What a sweep leaves in `returns/<sweep>/`: results.csv, best.json and summary.json."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from racksack_controller.core.sweeps.records import CONTROL, MAIN, Progress, Sweep
from racksack_controller.returns import let_owner_read, move_aside
from racksack_controller.store import open_snapshot
from racksack_controller.sweeps.results import ranking
from racksack_controller.sweeps.results.export import Export
from racksack_jobspecs import durable
from racksack_jobspecs.bounds import UNDECODABLE
from racksack_jobspecs.layout import Spool

BEST = 100


def finisher(spool: Spool) -> Callable[[Sweep, Progress], Callable[[], None]]:
    """What writes the folder of a sweep, to be called in a thread of its own."""

    def make(sweep: Sweep, progress: Progress) -> Callable[[], None]:
        return lambda: write_folder(spool, sweep, progress)

    return make


def write_folder(spool: Spool, sweep: Sweep, progress: Progress) -> None:
    """Write beside, put in place. Raises OSError, sqlite3.Error, StoreError, ReturnsError."""
    folder = spool.returns / f".receiving-sweep-{sweep.id}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    connection = open_snapshot(spool.database)
    try:
        write_results(connection, sweep, MAIN, folder / "results.csv")
        if progress.run == CONTROL:
            write_results(connection, sweep, CONTROL, folder / "control.csv")
        best = best_rows(connection, sweep, progress)
    finally:
        connection.close()
    (folder / "best.json").write_bytes(msgspec.json.format(msgspec.json.encode(best)) + b"\n")
    (folder / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(summary(sweep, progress))) + b"\n")
    let_owner_read(folder, sweep.owner)
    final = spool.returned(sweep.id)
    if final.exists() and not is_of_sweep(final, sweep):
        move_aside(spool, sweep.id)
    if final.exists():  # it was revived
        shutil.rmtree(final)
    folder.rename(final)
    durable.sync_file_system(spool.returns)


def is_of_sweep(folder: Path, sweep: Sweep) -> bool:
    """Whether a return folder is of this very sweep, and not of what had the same number in another store."""
    try:
        said = msgspec.json.decode((folder / "summary.json").read_bytes())
    except (OSError, *UNDECODABLE):
        return False
    if not isinstance(said, dict) or said.get("sweep") != sweep.id:
        return False
    return bool(said.get("key", sweep.key) == sweep.key)  # older folders have no key


def summary(sweep: Sweep, progress: Progress) -> dict[str, object]:
    """What became of it, without its points."""
    is_control = progress.run == CONTROL
    failed = progress.main_failed if is_control else progress.failed
    control = {"points": progress.points, "done": progress.done, "failed": progress.failed}
    return {
        "sweep": sweep.id,
        "key": sweep.key,
        "name": sweep.spec.name,
        "owner": sweep.owner,
        "state": str(progress.state),
        "reason": progress.reason,
        "points": sweep.points_total,
        "done": sweep.points_total - failed if is_control else progress.done,
        "failed": failed,
        "control": control if is_control else None,
        "reused": progress.reused,
        "submitted_at_s": sweep.submitted_at_s,
        "started_at_s": progress.started_at_s,
        "ready_at_s": progress.ready_at_s,
        "ended_at_s": progress.ended_at_s,
        "snapshot": sweep.snapshot,
    }


def best_rows(connection: sqlite3.Connection, sweep: Sweep, progress: Progress) -> list[dict[str, object]]:
    """The best points by the first metric, each with its parameters and metrics; none where no point has it."""
    results = ranking.results_of(connection, sweep)
    if sweep.sweep.metrics[0].name not in results.metrics:
        return []
    found = ranking.rank_of(connection, sweep, progress, results, count=BEST)
    return [{key: row[key] for key in ("point", "params", "metrics")} for row in found.rows]


def write_results(connection: sqlite3.Connection, sweep: Sweep, run: int, path: Path) -> None:
    """All points of a run as CSV, in their order: number, parameters, metrics, seconds, and how it failed."""
    export = Export(connection, sweep, run, as_csv=True)
    with path.open("wb") as file:
        while block := export.next_block(connection):
            file.write(block)
