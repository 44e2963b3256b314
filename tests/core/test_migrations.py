"""Stores of earlier versions: what a migration changes is read as it was meant."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

import msgspec
import pytest

from racksack_controller.core.power_records import OperatorRequest
from racksack_controller.core.sweeps.records import NodeBackoff, Progress
from racksack_controller.store import Store

OLD_PROGRESS = b'{"state":"running","rests":{"n1":{"reason":"memory was full","failures":2,"until_s":9.5}}}'
OLD_POWER = b'{"node":"n1","phase":"off","since_s":5.0%s}'


def store_of_version(path: Path, version: int) -> sqlite3.Connection:
    """A store as it was before the migrations after `version`."""
    connection = sqlite3.connect(path)
    folder = resources.files("racksack_controller").joinpath("migrations")
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql") and int(entry.name[:4]) <= version:
            connection.executescript(entry.read_text())
    connection.execute(f"PRAGMA user_version = {version}")
    return connection


@pytest.mark.parametrize(
    ("fields", "seen_on", "request_"),
    [
        (b',"lit":true,"wish":"cycle","wish_by":"ann"', True, (OperatorRequest.CYCLE, "ann")),
        (b',"lit":false', False, (OperatorRequest.NONE, "")),
        (b',"lit":null,"wish":""', None, (OperatorRequest.NONE, "")),
        (b"", None, (OperatorRequest.NONE, "")),
    ],
)
def test_power_records_keep_what_they_say(
    tmp_path: Path, fields: bytes, seen_on: bool | None, request_: tuple[OperatorRequest, str]
) -> None:
    connection = store_of_version(tmp_path / "store.sqlite", 7)
    connection.execute("INSERT INTO power VALUES ('n1', ?)", (OLD_POWER % fields,))
    connection.execute("INSERT INTO nodes VALUES ('n1', ?)", (b'{"name":"n1"}',))
    connection.commit()
    connection.close()
    record = Store(tmp_path / "store.sqlite").load().power["n1"]
    assert (record.seen_on, record.request, record.request_by) == (seen_on, *request_)


def test_progress_of_sweeps_keeps_its_backoffs(tmp_path: Path) -> None:
    connection = store_of_version(tmp_path / "store.sqlite", 7)
    row = "INSERT INTO sweeps (owner, name, submission, state, snapshot, code, submitted_at_s, record, progress)"
    for submission, progress in (("a", OLD_PROGRESS), ("b", b'{"state":"running"}')):
        values = ("ann", "s", submission, "running", "", "", 1.0, b"{}", progress)
        connection.execute(f"{row} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    connection.commit()
    connection.close()
    Store(tmp_path / "store.sqlite")
    found = sqlite3.connect(tmp_path / "store.sqlite").execute("SELECT progress FROM sweeps ORDER BY submission")
    kept, none = (msgspec.json.decode(progress, type=Progress).backoffs for (progress,) in found)
    assert kept == {"n1": NodeBackoff("memory was full", 2, 9.5)}
    assert none == {}
