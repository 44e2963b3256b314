"""Results in an SQLite file: names that SQL takes for one, values without a type of SQL, what goes wrong."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from racksack.errors import RacksackError
from racksack.sweep_client.sqlite import write_sqlite


def line(point: int, params: dict[str, Any], metrics: dict[str, Any], failure: str | None = None) -> bytes:
    told = {"point": point, "params": params, "metrics": metrics, "seconds": 0.5, "failure": failure}
    return json.dumps(told).encode()


def read(path: Path, question: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_each_parameter_and_metric_is_a_column(tmp_path: Path) -> None:
    path = tmp_path / "all.db"
    lines = [line(0, {"a": 1, "b": True}, {"score": 2.5}), line(7, {"a": 2}, {}, "error: no")]
    assert write_sqlite(lines, path) == 2
    assert read(path, "SELECT point, a, b, score, seconds, failure FROM points ORDER BY point") == [
        (0, 1, 1, 2.5, 0.5, None),
        (7, 2, None, None, 0.5, "error: no"),
    ]


def test_names_that_sql_takes_for_one_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "all.db"
    write_sqlite([line(0, {"A": 1, "point": 2, 'q"; DROP': 3}, {"a": 4, "Seconds": 5})], path)
    assert read(path, 'SELECT point, A, a_2, point_2, "q""; DROP", Seconds, seconds_2 FROM points') == [
        (0, 1, 4, 2, 3, 5, 0.5)
    ]


def test_values_without_a_type_of_sql(tmp_path: Path) -> None:
    path = tmp_path / "all.db"
    write_sqlite([line(0, {"layers": [8, 8]}, {"big": 2**64, "by": {"x": 1}})], path)
    assert read(path, "SELECT layers, big, by FROM points") == [("[8, 8]", str(2**64), '{"x": 1}')]


def test_no_points_are_an_empty_table(tmp_path: Path) -> None:
    assert write_sqlite([], tmp_path / "all.db") == 0
    assert read(tmp_path / "all.db", "SELECT * FROM points") == []


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RacksackError, match="cannot be written as an SQLite file: unable to open"):
        write_sqlite([], tmp_path / "none/all.db")
