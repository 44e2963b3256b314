"""Writes all results of a sweep into an SQLite file with one table, `points`, for whoever asks in SQL."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from racksack.errors import RacksackError
from racksack.text import clean

_OWN = ("point", "seconds", "failure")
Line = dict[str, Any]


def write_sqlite(lines: Sequence[bytes], path: Path) -> int:
    """Write the points, a JSON object each, to `path`, which is new; how many. Raises RacksackError.

    A parameter or metric has the column of its name; of two names that SQL takes for one the later has a number behind.
    """
    params, metrics = _names(lines, "params"), _names(lines, "metrics")
    columns = _distinct([*_OWN[:1], *params, *metrics, *_OWN[1:]])
    marks = ", ".join("?" * len(columns))
    quoted = [_quoted(name) for name in columns]
    # Closed whatever happens: a connection's own `with` only ends the transaction.
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE points ({quoted[0]} INTEGER PRIMARY KEY, {', '.join(quoted[1:])})")
            connection.executemany(f"INSERT INTO points VALUES ({marks})", _rows(lines, params, metrics))  # noqa: S608
    except sqlite3.Error as error:
        raise RacksackError(f"{clean(path)} cannot be written as an SQLite file: {error}") from error
    return len(lines)


def _rows(lines: Sequence[bytes], params: Sequence[str], metrics: Sequence[str]) -> Iterator[list[Any]]:
    for line in lines:
        row = json.loads(line)
        own, told = row["params"], row["metrics"]
        values = [own.get(name) for name in params] + [told.get(name) for name in metrics]
        yield [row["point"], *map(_plain, values), row["seconds"], row["failure"]]


def _plain(value: Any) -> Any:  # noqa: ANN401
    """What SQL has a type for; lists and objects as JSON, and whole numbers beyond 64 bits as text."""
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _names(lines: Sequence[bytes], kind: str) -> list[str]:
    """In the order in which they come up. Points of one kind have the same ones, so most lines add nothing."""
    return list(dict.fromkeys(name for line in lines for name in json.loads(line)[kind]))


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        unique, number = name, 2
        while unique.lower() in taken:
            unique, number = f"{name}_{number}", number + 1
        taken.add(unique.lower())
        found.append(unique)
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
