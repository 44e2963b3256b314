"""Old records leave the store: finished jobs and sweeps with all that belongs to them, stories, stale uploads.

Everything here runs inside one transaction on the store's writing thread, on so few records that nobody waits for it.
What may go is decided elsewhere (`housekeeping`); ids are never given out again, since the highest is noted first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

AT_ONCE = 500  # records of one transaction

_OF_JOBS = ("attempts WHERE job", "events WHERE job", "energy_jobs WHERE job", "jobs WHERE id")
_OF_SWEEPS = (
    "sweep_chunks WHERE sweep",
    "sweep_streams WHERE sweep",
    "sweep_failures WHERE sweep",
    "sweep_params WHERE sweep",
    "sweep_reports WHERE sweep",
    "sweep_rungs WHERE sweep",
    "events WHERE job",
    "sweeps WHERE id",
)


class OldJob(NamedTuple):
    """A job that ended long ago."""

    id: int
    fetched: bool
    array: str | None  # the submission, of a job of an array


def old_jobs(connection: sqlite3.Connection, before_s: float, after_id: int, limit: int) -> list[OldJob]:
    """Jobs that ended before a time and of which nothing is left to do, by id. Runners go with their sweeps."""
    sql = """
        SELECT id, fetched, iif(array_index IS NULL, NULL, submission) FROM jobs AS one
        WHERE ended_at_s < ? AND id > ? AND submission NOT GLOB 'sweep-[0-9]*-[0-9]*'
          AND NOT EXISTS (SELECT 1 FROM attempts WHERE job = one.id AND live = 1)
        ORDER BY id LIMIT ?
    """
    rows = connection.execute(sql, (before_s, after_id, limit))
    return [OldJob(int(number), bool(fetched), array) for number, fetched, array in rows]


def young_arrays(connection: sqlite3.Connection, before_s: float) -> set[str]:
    """The submissions of arrays of which not all ended before a time: they stay whole."""
    sql = """
        SELECT DISTINCT submission FROM jobs
        WHERE array_index IS NOT NULL AND (ended_at_s IS NULL OR ended_at_s >= ?)
    """
    return {str(row[0]) for row in connection.execute(sql, (before_s,))}


def old_sweeps(connection: sqlite3.Connection, before_s: float) -> list[tuple[int, bool]]:
    """Sweeps that ended before a time: (id, whether they were fetched)."""
    rows = connection.execute("SELECT id, fetched FROM sweeps WHERE ended_at_s < ? ORDER BY id", (before_s,))
    return [(int(number), bool(fetched)) for number, fetched in rows]


def runners_of(connection: sqlite3.Connection, sweep: int) -> list[int]:
    """The ids of the runner jobs of a sweep."""
    rows = connection.execute("SELECT id FROM jobs WHERE submission GLOB ?", (f"sweep-{sweep}-[0-9]*",))
    return [int(row[0]) for row in rows]


def remove_jobs(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Remove jobs with their attempts and stories. Their submissions count as new ones from now on."""
    _note_last_id(connection)
    numbers = [(number,) for number in ids]
    # Without its size an array that is removed in parts never looks like one that was not added whole.
    connection.executemany("DELETE FROM arrays WHERE submission = (SELECT submission FROM jobs WHERE id = ?)", numbers)
    for table in _OF_JOBS:
        connection.executemany(f"DELETE FROM {table} = ?", numbers)  # noqa: S608 - the tables are ours


def remove_segments(connection: sqlite3.Connection, sweep: int) -> int:
    """Remove some results of a sweep; how many segments that were."""
    sql = "DELETE FROM sweep_segments WHERE id IN (SELECT id FROM sweep_segments WHERE sweep = ? LIMIT 20)"
    return connection.execute(sql, (sweep,)).rowcount


def remove_sweep(connection: sqlite3.Connection, sweep: int) -> None:
    """Remove a sweep whose segments are gone."""
    _note_last_id(connection)
    for table in _OF_SWEEPS:
        connection.execute(f"DELETE FROM {table} = ?", (sweep,))  # noqa: S608 - the tables are ours


def remove_stories(connection: sqlite3.Connection, before_s: float) -> int:
    """Remove some old lines of the stories of nodes and of power, and uploads that became content; how many."""
    removed = 0
    for table in ("events", "power_events"):
        sql = f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE at_s < ? AND {{}} LIMIT ?)"  # noqa: S608
        condition = "job IS NULL" if table == "events" else "1"
        removed += connection.execute(sql.format(condition), (before_s, AT_ONCE)).rowcount
    sql = "DELETE FROM uploads WHERE upload IN (SELECT upload FROM uploads WHERE at_s < ? LIMIT ?)"
    return removed + connection.execute(sql, (before_s, AT_ONCE)).rowcount


def forget_programs(connection: sqlite3.Connection, kept: Sequence[str]) -> int:
    """Remove what is stored of programs other than these keys (as JSON); how many there were."""
    connection.execute("CREATE TEMP TABLE kept_programs (key TEXT PRIMARY KEY)")
    try:
        connection.executemany("INSERT OR IGNORE INTO kept_programs VALUES (?)", [(key,) for key in kept])
        return connection.execute("DELETE FROM history WHERE key NOT IN (SELECT key FROM kept_programs)").rowcount
    finally:
        connection.execute("DROP TABLE kept_programs")


def last_id(connection: sqlite3.Connection) -> int:
    """The highest id that was ever given to a job or a sweep, 0 for a new store."""
    sql = """
        SELECT max(
            ifnull((SELECT max(id) FROM jobs), 0),
            ifnull((SELECT max(id) FROM sweeps), 0),
            ifnull((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_id'), 0))
    """
    return int(connection.execute(sql).fetchone()[0])


def raise_last_id(connection: sqlite3.Connection, least: int) -> None:
    """Give out no id up to `least` any more."""
    last = max(last_id(connection), least)
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('last_id', ?)", (str(last),))


def _note_last_id(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('last_id', ?)", (str(last_id(connection)),))
