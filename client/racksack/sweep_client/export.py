"""Writes all results of a sweep to a file: CSV, JSON, JSON lines, SQLite, or Parquet (for which pyarrow is needed)."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from racksack.client import Client
from racksack.errors import RacksackError, UsageError
from racksack.text import clean
from racksack_jobspecs.origin import install_hint

KINDS = ("csv", "json", "jsonl", "parquet", "sqlite")
_ENDINGS = {"pq": "parquet", "ndjson": "jsonl", "db": "sqlite", "sqlite3": "sqlite"}


def kind_of(target: str, kind: str | None) -> str:
    """The format: as asked for, or by the file's ending. Raises UsageError."""
    if kind is not None:
        return kind
    ending = Path(target).suffix.lstrip(".").lower()
    if target == "-" or not ending:
        return "csv"
    ending = _ENDINGS.get(ending, ending)
    if ending not in KINDS:
        raise UsageError(
            f"{clean(target)}: .{clean(ending)} is no format; use --format csv, json, jsonl, parquet or sqlite"
        )
    return ending


def write(client: Client, number: int, run: str, kind: str, path: Path | None) -> int:
    """Write the results; how many points. Raises RacksackError where a library is missing or it cannot be written."""
    if kind in ("parquet", "sqlite"):
        if path is None:
            raise UsageError(f"{kind} is not written to a terminal or pipe; name a file with -o")
        lines = client.sweep_results(number, run=run).splitlines()
        return _parquet([json.loads(line) for line in lines], path) if kind == "parquet" else _sqlite(lines, path)
    data = client.sweep_results(number, run=run, as_csv=kind == "csv")
    rows = data.count(b"\n") - (kind == "csv")
    if kind == "json":
        data = b"[\n" + b",\n".join(data.splitlines()) + b"\n]\n"
    if path is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return rows
    with _whole(path) as beside:
        beside.write_bytes(data)
    return rows


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place in the end: a full disk leaves no half file under the name.

    Raises RacksackError where it cannot be written.
    """
    beside = path.with_name(f".{path.name}.partial")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        raise RacksackError(f"{clean(path)} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _sqlite(lines: list[bytes], path: Path) -> int:
    from racksack.sweep_client.sqlite import write_sqlite

    with _whole(path) as beside:
        beside.unlink(missing_ok=True)
        return write_sqlite(lines, beside)


def _parquet(rows: list[dict[str, Any]], path: Path) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RacksackError(
            f"Parquet needs pyarrow, which is not installed here; {install_hint('sweeps')}, or export CSV"
        ) from None
    columns = _columns(rows)
    try:
        table = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
    except pyarrow.ArrowInvalid:  # a column of numbers and texts
        table = pyarrow.table({name: pyarrow.array(_alike(values)) for name, values in columns.items()})
    with _whole(path) as beside:
        pyarrow.parquet.write_table(table, beside)
    return len(rows)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """One list for each column; a metric with a parameter's name is told apart."""
    params = list(dict.fromkeys(name for row in rows for name in row["params"]))
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    columns: dict[str, list[Any]] = {"point": [row["point"] for row in rows]}
    for name in params:
        columns[name] = [row["params"].get(name) for row in rows]
    for name in metrics:
        unique = name if name not in columns else f"metric {name}"
        columns[unique] = [row["metrics"].get(name) for row in rows]
    columns["seconds"] = [row["seconds"] for row in rows]
    columns["failure"] = [row["failure"] for row in rows]
    return columns


def _alike(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 or kinds <= {int, float}:
        return values
    return [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
