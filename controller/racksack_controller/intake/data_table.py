"""Data sets in the store, as SQL. Runs on the store's threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

_COLUMNS = "owner, name, version, digest, files, bytes, pinned, added_at_s, taken_at_s"


class DataSet(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a data set."""

    owner: str
    name: str
    version: int
    digest: str
    files: int
    size_bytes: int
    pinned: bool
    added_at_s: float
    taken_at_s: float


def versions_of(connection: sqlite3.Connection, owner: str, name: str) -> list[DataSet]:
    """All versions, newest first."""
    return list(_where(connection, "owner = ? AND name = ? ORDER BY version DESC", (owner, name)))


def all_of(connection: sqlite3.Connection, owner: str | None) -> list[DataSet]:
    """The data sets of an owner, or of everybody, by name; newest versions first."""
    condition, values = ("owner = ?", (owner,)) if owner is not None else ("1", ())
    return list(_where(connection, f"{condition} ORDER BY owner, name, version DESC", values))


def _where(connection: sqlite3.Connection, condition: str, values: tuple[Any, ...]) -> Iterator[DataSet]:
    for row in connection.execute(f"SELECT {_COLUMNS} FROM data_sets WHERE {condition}", values):  # noqa: S608 - ours
        owner, name, version, digest, files, size_bytes, pinned, added_at_s, taken_at_s = row
        yield DataSet(
            owner=owner, name=name, version=version, digest=digest, files=files, size_bytes=size_bytes,
            pinned=bool(pinned), added_at_s=added_at_s, taken_at_s=taken_at_s,
        )  # fmt: skip


def add(
    connection: sqlite3.Connection, owner: str, name: str, digest: str, files: int, size_bytes: int, now: float
) -> DataSet:
    """The version with this content: a new one, unless the newest has it already."""
    known = versions_of(connection, owner, name)
    if known and known[0].digest == digest:
        taken(connection, known[0], now)
        return known[0]
    found = DataSet(
        owner=owner, name=name, version=known[0].version + 1 if known else 1, digest=digest, files=files,
        size_bytes=size_bytes, pinned=False, added_at_s=now, taken_at_s=now,
    )  # fmt: skip
    values = (owner, name, found.version, digest, files, size_bytes, 0, now, now)
    connection.execute(f"INSERT INTO data_sets ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
    return found


def taken(connection: sqlite3.Connection, one: DataSet, now: float) -> None:
    """A job asks for it."""
    _set(connection, one, "taken_at_s", now)


def pin(connection: sqlite3.Connection, one: DataSet, *, pinned: bool) -> None:
    """Keep it whatever its age, or no longer."""
    _set(connection, one, "pinned", int(pinned))


def _set(connection: sqlite3.Connection, one: DataSet, column: str, value: float) -> None:
    connection.execute(
        f"UPDATE data_sets SET {column} = ? WHERE owner = ? AND name = ? AND version = ?",  # noqa: S608 - ours
        (value, one.owner, one.name, one.version),
    )


def remove(connection: sqlite3.Connection, one: DataSet) -> None:
    """Forget a version; its content goes when no job needs it."""
    connection.execute(
        "DELETE FROM data_sets WHERE owner = ? AND name = ? AND version = ?", (one.owner, one.name, one.version)
    )


def digests_kept(connection: sqlite3.Connection) -> set[str]:
    """The content of all data sets."""
    return {str(row[0]) for row in connection.execute("SELECT digest FROM data_sets")}
