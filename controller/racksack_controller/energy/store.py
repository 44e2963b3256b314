"""Energy in the store: joules by node and time, and by job.

A row of `energy` covers five minutes, older ones an hour, so that a year of a node is 9,000 rows. Joules add up in the
rows: what is written twice is counted twice, so a span is written with its end in `energy_meters` in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from racksack_controller.energy.joules import is_estimate

FRESH_SPAN_S = 300
OLD_SPAN_S = 3600
FRESH_FOR_S = 3 * 86400.0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """What a node did in a span. `always_j` is what it would have drawn had it never been off."""

    start_s: int
    span_s: int = FRESH_SPAN_S
    joules: float = 0.0
    sensor_j: float = 0.0  # the part of `joules` that a sensor measured; the rest is estimated
    idle_j: float = 0.0  # the part that no job used
    always_j: float = 0.0
    on_s: float = 0.0
    known_s: float = 0.0  # how much of the span was looked at


class JobEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """What a job used so far, all its attempts together."""

    job: int
    joules: float = 0.0
    sensor_j: float = 0.0
    at_s: float = 0.0

    @property
    def is_estimate(self) -> bool:
        """Whether any noteworthy part of it was not measured."""
        return is_estimate(self.joules, self.sensor_j)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Where the metering of a node stands: up to when, with how many watts, and what it draws when idle."""

    node: str
    at_s: float
    watts: float
    idle_watts: float | None = None  # learnt from a sensor


def load_readings(connection: sqlite3.Connection) -> dict[str, Reading]:
    """Where metering stood when it was last saved."""
    rows = connection.execute("SELECT node, at_s, watts, idle_watts FROM energy_meters")
    return {row[0]: Reading(node=row[0], at_s=row[1], watts=row[2], idle_watts=row[3]) for row in rows}


def save(
    connection: sqlite3.Connection,
    slices: Iterable[tuple[str, Slice]],
    jobs: Iterable[JobEnergy],
    readings: Iterable[Reading],
) -> None:
    """Add slices to what is stored, add to jobs, and note how far metering came."""
    connection.executemany(
        _ADD_SLICE,
        [
            (node, one.start_s, one.span_s, one.joules, one.sensor_j, one.idle_j, one.always_j, one.on_s, one.known_s)
            for node, one in slices
        ],
    )
    connection.executemany(_ADD_JOB, [(one.job, one.joules, one.sensor_j, one.at_s) for one in jobs])
    connection.executemany(
        "INSERT OR REPLACE INTO energy_meters VALUES (?, ?, ?, ?)",
        [(one.node, one.at_s, one.watts, one.idle_watts) for one in readings],
    )


_ADD_SLICE = """
INSERT INTO energy VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (node, start_s) DO UPDATE SET
    joules = joules + excluded.joules, sensor_j = sensor_j + excluded.sensor_j, idle_j = idle_j + excluded.idle_j,
    always_j = always_j + excluded.always_j, on_s = on_s + excluded.on_s, known_s = known_s + excluded.known_s
"""
_ADD_JOB = """
INSERT INTO energy_jobs VALUES (?, ?, ?, ?)
ON CONFLICT (job) DO UPDATE SET
    joules = joules + excluded.joules, sensor_j = sensor_j + excluded.sensor_j, at_s = excluded.at_s
"""


def roll_up(connection: sqlite3.Connection, now_s: float) -> int:
    """Make hours of what is older than a few days; how many rows became fewer."""
    before = int(now_s - FRESH_FOR_S) // OLD_SPAN_S * OLD_SPAN_S
    values = (FRESH_SPAN_S, before)
    hours = connection.execute(
        "SELECT node, start_s - start_s % 3600, 3600, sum(joules), sum(sensor_j), sum(idle_j), sum(always_j), "
        "sum(on_s), sum(known_s) FROM energy WHERE span_s = ? AND start_s < ? GROUP BY 1, 2",
        values,
    ).fetchall()
    gone = connection.execute("DELETE FROM energy WHERE span_s = ? AND start_s < ?", values).rowcount
    connection.executemany("INSERT INTO energy VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", hours)
    return gone - len(hours)


def slices_since(connection: sqlite3.Connection, since_s: float) -> dict[str, list[Slice]]:
    """The slices of every node that end after a moment, oldest first."""
    rows = connection.execute("SELECT * FROM energy WHERE start_s + span_s > ? ORDER BY node, start_s", (since_s,))
    found: dict[str, list[Slice]] = {}
    for node, start_s, span_s, joules, sensor_j, idle_j, always_j, on_s, known_s in rows:
        one = Slice(
            start_s=start_s,
            span_s=span_s,
            joules=joules,
            sensor_j=sensor_j,
            idle_j=idle_j,
            always_j=always_j,
            on_s=on_s,
            known_s=known_s,
        )
        found.setdefault(node, []).append(one)
    return found


def job_energies(connection: sqlite3.Connection, since_s: float, limit: int) -> list[JobEnergy]:
    """The jobs that used most since a moment. A job that began earlier counts with all it used."""
    sql = "SELECT job, joules, sensor_j, at_s FROM energy_jobs WHERE at_s >= ? ORDER BY joules DESC LIMIT ?"
    rows = connection.execute(sql, (since_s, limit))
    return [JobEnergy(job=row[0], joules=row[1], sensor_j=row[2], at_s=row[3]) for row in rows]


def energy_of_job(connection: sqlite3.Connection, job: int) -> JobEnergy | None:
    """What a job used, as far as it is saved; None when nothing was metered."""
    row = connection.execute("SELECT job, joules, sensor_j, at_s FROM energy_jobs WHERE job = ?", (job,)).fetchone()
    return JobEnergy(job=row[0], joules=row[1], sensor_j=row[2], at_s=row[3]) if row else None
