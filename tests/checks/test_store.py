"""The check of the store, on real SQLite files: intact, damaged, missing, too large for the time that there is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from racksack_controller.checks import store
from racksack_controller.checks.store import StoreCheck
from racksack_controller.store import open_database
from racksack_jobspecs.findings import Finding, Verdict


def filled(path: Path, rows: int) -> Path:
    """A store with so many lines of story, all of it in the main file."""
    connection = open_database(path)
    connection.execute("CREATE TABLE ballast (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    connection.executemany("INSERT INTO ballast VALUES (?, ?)", ((number, "x" * 200) for number in range(rows)))
    connection.execute("CREATE INDEX by_text ON ballast (text, number)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def one(check: StoreCheck) -> Finding:
    (finding,) = check.look()
    assert finding.what == "store"
    return finding


def test_an_intact_store_while_it_is_written(tmp_path: Path) -> None:
    path = filled(tmp_path / "it's 100%#?.db", 100)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO ballast VALUES (-1, 'not committed yet')")
    assert one(StoreCheck(path)).verdict is Verdict.OK
    writer.execute("COMMIT")
    writer.close()


def test_a_damaged_store(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db", 2000)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 8192)
    finding = one(StoreCheck(path))
    assert finding.verdict is Verdict.FAILED
    assert "docs/operating.md" in finding.sentence
    assert "\n" not in finding.sentence


def test_what_is_no_store_at_all(tmp_path: Path) -> None:
    assert "cannot be read" in one(StoreCheck(tmp_path / "none.db")).sentence
    (tmp_path / "text.db").write_bytes(b"this is no database" * 1000)
    finding = one(StoreCheck(tmp_path / "text.db"))
    assert finding.verdict is Verdict.FAILED
    assert "not a database" in finding.sentence


def test_a_store_that_takes_too_long_is_not_called_damaged(tmp_path: Path) -> None:
    path = filled(tmp_path / "store.db", 20_000)
    finding = one(StoreCheck(path, limit_s=0.0))
    assert finding.verdict is Verdict.NOT_LOOKED_AT
    assert "PRAGMA quick_check" in finding.sentence


def test_what_was_found_holds_for_a_while(tmp_path: Path, monkeypatch) -> None:
    path = filled(tmp_path / "store.db", 10)
    check = StoreCheck(path)
    assert one(check).verdict is Verdict.OK
    path.write_bytes(b"no database any more" * 1000)
    assert one(check).verdict is Verdict.OK
    monkeypatch.setattr(store, "HOLDS_S", 0.0)
    assert one(check).verdict is Verdict.FAILED
