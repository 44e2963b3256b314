"""Recurring jobs in the store, as SQL. Runs on the store's threads."""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec.structs import replace

from racksack_controller.core.records import DataMount
from racksack_jobspecs.recurrence import Recurrence
from racksack_jobspecs.spec import JobSpec


class RecurringJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is submitted anew, again and again, and what came of it so far. Times are Unix seconds."""

    id: int
    owner: str
    spec: JobSpec
    snapshot: str
    data: tuple[DataMount, ...]
    made_at_s: float
    due_at_s: float | None  # None while it is paused
    last_due_s: float | None = None
    last_jobs: tuple[int, ...] = ()  # of the last run: a job, the elements of an array, or a sweep
    runs: int = 0
    left_out: int = 0  # runs that were left out, since the one before was not over
    problem: str = ""  # why the last run could not be submitted

    @property
    def recurrence(self) -> Recurrence:
        """When it runs."""
        assert self.spec.every is not None  # noqa: S101 - what makes it one
        return self.spec.every


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(RecurringJob)


def add(connection: sqlite3.Connection, one: RecurringJob) -> RecurringJob:
    """Save a new one; its id is taken here."""
    sql = "INSERT INTO recurring (owner, submission, due_at_s, record) VALUES (?, ?, ?, '') RETURNING id"
    number = connection.execute(sql, (one.owner, one.spec.submission, one.due_at_s)).fetchone()[0]
    found = replace(one, id=number)
    save(connection, found)
    return found


def save(connection: sqlite3.Connection, one: RecurringJob) -> None:
    """Save what changed; one that was removed meanwhile stays removed."""
    text = _ENCODER.encode(one).decode()
    connection.execute("UPDATE recurring SET due_at_s = ?, record = ? WHERE id = ?", (one.due_at_s, text, one.id))


def remove(connection: sqlite3.Connection, number: int) -> None:
    """Forget it; jobs that it has submitted go on."""
    connection.execute("DELETE FROM recurring WHERE id = ?", (number,))


def by_id(connection: sqlite3.Connection, number: int) -> RecurringJob | None:
    """The one with this id."""
    row = connection.execute("SELECT record FROM recurring WHERE id = ?", (number,)).fetchone()
    return None if row is None else _DECODER.decode(row[0])


def id_of_submission(connection: sqlite3.Connection, submission: str) -> int | None:
    """The one that a submission made."""
    row = connection.execute("SELECT id FROM recurring WHERE submission = ?", (submission,)).fetchone()
    return None if row is None else int(row[0])


def count_of(connection: sqlite3.Connection, owner: str) -> int:
    """How many an owner has."""
    return int(connection.execute("SELECT count(*) FROM recurring WHERE owner = ?", (owner,)).fetchone()[0])


def all_of(connection: sqlite3.Connection, owner: str | None) -> list[RecurringJob]:
    """Those of an owner, or of everybody."""
    condition, values = ("owner = ?", (owner,)) if owner is not None else ("1", ())
    sql = f"SELECT record FROM recurring WHERE {condition} ORDER BY id"  # noqa: S608 - ours
    return [_DECODER.decode(row[0]) for row in connection.execute(sql, values)]


def due(connection: sqlite3.Connection, now_s: float, limit: int) -> list[RecurringJob]:
    """Those whose time has come, the first first."""
    sql = "SELECT record FROM recurring WHERE due_at_s <= ? ORDER BY due_at_s LIMIT ?"
    return [_DECODER.decode(row[0]) for row in connection.execute(sql, (now_s, limit))]


def next_due_s(connection: sqlite3.Connection) -> float | None:
    """When the next one is due."""
    row = connection.execute("SELECT min(due_at_s) FROM recurring WHERE due_at_s IS NOT NULL").fetchone()
    return None if row[0] is None else float(row[0])
