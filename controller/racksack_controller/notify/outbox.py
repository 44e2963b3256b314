"""What people are to be told and was not sent yet: rows of the store, so that a restart or a receiver that is down
loses nothing. A notice has a key, and each channel gets a key once; settled rows stay for a week to know that.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

KEEP_S = 7 * 86400.0  # settled rows, and how long is tried to send one
PENDING_MAX = 10_000  # of one channel; what would be more is counted and left out

Facts = Mapping[str, Any]
"""At least `key` and `sentence`; the other keys are for programs."""


class Pending(NamedTuple):
    """A notice that a channel does not have yet."""

    number: int
    made_at_s: float
    facts: dict[str, Any]


def add(connection: sqlite3.Connection, wanted: Iterable[tuple[str, Facts]], now_s: float) -> int:
    """Put notices into the outbox, for a channel each; how many were new."""
    added = 0
    room: dict[str, int] = {}
    for channel, facts in wanted:
        if channel not in room:
            room[channel] = PENDING_MAX - _pending_count(connection, channel)
        if room[channel] <= 0:
            continue
        cursor = connection.execute(
            "INSERT OR IGNORE INTO notices (channel, key, made_at_s, notice) VALUES (?, ?, ?, ?)",
            (channel, facts["key"], now_s, json.dumps(facts)),
        )
        room[channel] -= cursor.rowcount
        added += cursor.rowcount
    return added


def _pending_count(connection: sqlite3.Connection, channel: str) -> int:
    sql = "SELECT count(*) FROM notices WHERE channel = ? AND settled_at_s IS NULL"
    return int(connection.execute(sql, (channel,)).fetchone()[0])


def pending(connection: sqlite3.Connection, channel: str, limit: int) -> list[Pending]:
    """The oldest notices that a channel does not have, `limit` at most."""
    sql = "SELECT id, made_at_s, notice FROM notices WHERE channel = ? AND settled_at_s IS NULL ORDER BY id LIMIT ?"
    return [Pending(row[0], row[1], json.loads(row[2])) for row in connection.execute(sql, (channel, limit))]


def settle(connection: sqlite3.Connection, numbers: Sequence[int], now_s: float) -> None:
    """These were sent, or are given up."""
    connection.executemany("UPDATE notices SET settled_at_s = ? WHERE id = ?", [(now_s, one) for one in numbers])


def prune(connection: sqlite3.Connection, channels: Iterable[str], now_s: float) -> int:
    """Give up what is too old or has no channel any more, and forget old settled ones; how many were given up."""
    known = list(channels)
    sql = """UPDATE notices SET settled_at_s = ? WHERE settled_at_s IS NULL
        AND (made_at_s < ? OR channel NOT IN (SELECT value FROM json_each(?)))"""
    given_up = connection.execute(sql, (now_s, now_s - KEEP_S, json.dumps(known))).rowcount
    connection.execute("DELETE FROM notices WHERE settled_at_s < ?", (now_s - KEEP_S,))
    return given_up
