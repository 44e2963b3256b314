"""Goes through a spool: the store, what stands beside it, and what each says of the other.

Each check yields its findings one by one; with `repair` each is repaired where it is found, in one transaction of the
store, and what later checks find is what is left. Nothing that a person could want is deleted: what is wrong is moved
aside, and rows that are taken out of the store are kept in `damaged.jsonl`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from racksack_controller.intake.ids import highest_id
from racksack_controller.intake.spool import prepare
from racksack_controller.recovery import folders, records
from racksack_controller.recovery.errors import RecoveryError
from racksack_controller.recovery.faults import Check, Fault, Scene
from racksack_controller.store import StoreError, open_database, open_snapshot, read_identity
from racksack_jobspecs import durable
from racksack_jobspecs.layout import Spool

DAMAGED = "damaged.jsonl"
CHECKS: tuple[Check, ...] = (
    records.damaged_records,
    records.contradicting_columns,
    records.unknown_jobs,
    folders.ended_meanwhile,
    folders.result_folders,
    folders.content_of_unfinished,
    folders.notes_of_unfinished,
    folders.links,
    folders.given_ids,
    folders.spool_identity,
)


def examine(spool: Spool, *, repair: bool) -> Iterator[Fault]:
    """Every finding of the spool, repaired already where it says so. With `repair` the caller holds the spool's lock.

    Raises RecoveryError, StoreError, OSError, sqlite3.Error.
    """
    if not spool.root.is_dir():
        raise RecoveryError(f"there is no spool at {spool.root}; name it with --spool or --config")
    if repair:
        _make_folders(spool)
    else:
        yield from _missing_folders(spool)
    problem = _problem_of(spool.database)
    if problem:
        remedy = "a new one is built from what is still readable, and from projects/ and returns/"
        if not repair and not highest_id(spool) and not _size_of(spool.database):
            return  # a spool whose controller never ran
        if not repair:
            yield Fault(what="store", sentence=problem, remedy=remedy)
            return
        _new_store(spool)
        yield Fault(what="store", sentence=problem, remedy=remedy, repaired=True)
    with closing(open_database(spool.database) if repair else open_snapshot(spool.database)) as connection:
        scene = Scene(spool, connection, repair, lambda table, row: _keep(spool, table, row))
        for check in CHECKS:
            if repair:
                connection.execute("BEGIN IMMEDIATE")
            yield from check(scene)
            if repair:
                connection.execute("COMMIT")


def _missing_folders(spool: Spool) -> Iterator[Fault]:
    for folder in (spool.incoming, spool.jobs, spool.rejected, spool.snapshots, spool.projects, spool.returns):
        if not folder.is_dir():
            yield Fault(what="spool", sentence=f"{folder} is missing", remedy="it is made", is_harmless=True)
            if folder in (spool.projects, spool.returns):
                raise RecoveryError(f"{folder} is missing; `racksack fsck --repair` makes it")


def _make_folders(spool: Spool) -> None:
    """Those that are missing, for their owner alone; the controller's next start sets their modes."""
    if not all(path.is_dir() for path in (spool.incoming, spool.jobs, spool.rejected, spool.snapshots)) or not all(
        path.is_dir() for path in (spool.projects, spool.returns)
    ):
        prepare(spool)


def _problem_of(database: Path) -> str:
    """Why a store cannot be used at all; empty when it can. Raises StoreError for one of a newer racksack."""
    if not database.exists():
        return f"there is no store at {database}"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as connection:
            connection.text_factory = _legible
            mistakes = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)") if row[0] != "ok"]
            if not mistakes and int(connection.execute("PRAGMA user_version").fetchone()[0]) == 0:
                return f"{database} is empty"
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "unable to open" in str(error):
            raise StoreError(f"the store {database} cannot be read: {error}") from error
        return f"{database} cannot be read: {error}"
    except sqlite3.DatabaseError as error:
        return f"{database} is damaged: {error}"
    except UnicodeDecodeError:  # SQLite names what is damaged, in damaged words
        return f"{database} is damaged: its schema cannot be read"
    return f"{database} is damaged: {' '.join(mistakes[0].split())[:200]}" if mistakes else ""


def _legible(text: bytes) -> str:
    """What is damaged need not be UTF-8."""
    return text.decode("utf-8", "replace")


def _size_of(database: Path) -> int:
    return database.stat().st_size if database.exists() else 0


def _new_store(spool: Spool) -> None:
    """Put a new store in place of a lost or damaged one, with what can be read of that. Raises StoreError, OSError."""
    aside = _move_aside(spool.database)
    with closing(open_database(spool.database)) as connection:
        spool_id = read_identity(spool.database)
        if aside is not None:
            _salvage(aside, connection)
        if spool_id:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('spool_id', ?)", (spool_id,))
    spool.database.chmod(0o600)
    durable.sync_folder(spool.root)


def _move_aside(database: Path) -> Path | None:
    if not _size_of(database):
        database.unlink(missing_ok=True)
        return None
    aside = database.with_name(f"{database.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6}")
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            database.with_name(database.name + suffix).rename(aside.with_name(aside.name + suffix))
    database.rename(aside)
    return aside


def _salvage(damaged: Path, connection: sqlite3.Connection) -> None:
    """Copy every row that can still be read, table by table, from both ends of what cannot."""
    sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    tables = [str(row[0]) for row in connection.execute(sql).fetchall()]
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{damaged.as_uri()}?mode=rw", uri=True)) as source:
        source.text_factory = _legible
        for table in tables:
            for order in ("", " ORDER BY 1 DESC"):
                with suppress(sqlite3.Error, UnicodeDecodeError):
                    _copy_rows(source, connection, table, order)


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection, table: str, order: str) -> None:
    """Raises sqlite3.Error at the first row that cannot be read; those before it are there."""
    found = source.execute(f"SELECT * FROM {table}{order}")  # noqa: S608 - a table of our schema
    names = [column[0] for column in found.description]
    ours = {str(row[1]) for row in target.execute(f"PRAGMA table_info({table})")}
    if not set(names) <= ours:
        return
    marks = ", ".join("?" * len(names))
    statement = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - the same
    for row in found:
        target.execute(statement, row)


def _keep(spool: Spool, table: str, row: dict[str, object]) -> None:
    """A row that is taken out of the store, as a line for whoever wants to know. Raises OSError."""
    path = spool.root / DAMAGED
    path.touch(mode=0o600)
    with path.open("ab") as file:
        file.write(msgspec.json.encode({"table": table, "at_s": time.time(), "row": row}) + b"\n")
