"""Segments and the ledger: what workers encode comes back the same, merged or not, and counts once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.sweeps.records import Chunk, Failure
from racksack_controller.store import open_database
from racksack_controller.sweeps.results import ledger
from racksack_controller.sweeps.results.segments import FrameError, Segment, as_ranges, merge, split, without
from tests.sweeps.builders import ok_frame, progress, rows, segment, sweep

values = st.one_of(
    st.none(), st.booleans(), st.just(2**53 + 1), st.integers(-(2**70), 2**70), st.text(max_size=3),
    st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers(0, 3), max_size=2),
)  # fmt: skip
metrics = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def told(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in result.items() if value is not None} for result in results]


@given(st.lists(metrics, min_size=1, max_size=12), st.integers(0, 5))
def test_columns_hold_what_was_told(results: list[dict[str, Any]], first: int) -> None:
    points = list(range(first, first + len(results)))
    one = segment(range(first, first + len(results)), results)
    assert [rows([one])[point] for point in points] == told(results)
    scattered = segment([3 * point for point in points], results)
    assert [rows([scattered])[3 * point] for point in points] == told(results)
    halves = [segment(points[::2], results[::2]), *([segment(points[1::2], results[1::2])] if len(points) > 1 else [])]
    whole = merge(halves)
    assert whole.first == first
    assert [rows([whole])[point] for point in points] == told(results)
    kept = without(whole, Ranges([(first, first + 1)]))
    assert (set() if kept is None else set(kept.numbers().tolist())) == set(points[1:])


def test_kinds_are_kept() -> None:
    one = segment(range(3), [{"n": 1, "x": 1.0}, {"n": 2, "x": 2.0}, {"n": 3, "x": 0.5}])
    assert [(name, kind) for name, kind, _ in one.columns] == [("n", "q"), ("x", "d")]
    assert isinstance(rows([merge([one, segment(range(5, 6), [{"n": 4}])])])[5]["n"], int)


def test_frames_that_are_none() -> None:
    good = ok_frame(1, range(2), [{"a": 1.0}, {"a": 2.0}])
    assert split(good[:-1]) == ([], 0)
    assert split(good + good)[1] == 2 * len(good)
    for bad in (b"\xff" * 40, good[:8] + b"x" + good[9:]):
        with pytest.raises(FrameError):
            split(bad)


def test_as_ranges() -> None:
    import numpy as np

    assert as_ranges(np.array([4, 5, 6, 1, 9], dtype=np.int64)) == [(4, 7), (1, 2), (9, 10)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "store.db")
    yield connection
    connection.close()


def chunk(number: int, low: int, high: int) -> Chunk:
    return Chunk(
        number=number, run=0, attempt="2.1", node="r1", ranges=((low, high),), points=high - low, handed_at_s=1.0
    )


def parts(low: int, high: int, size: int) -> list[Segment]:
    return [
        segment(range(at, at + size), [{"x": float(point)} for point in range(at, at + size)])
        for at in range(low, high, size)
    ]


def test_a_settled_chunk_is_few_rows(database: sqlite3.Connection) -> None:
    one = sweep()
    ledger.add_sweep(database, one, progress(one))
    for number in range(1, 101):
        lease = chunk(number, number * 100, number * 100 + 100)
        ledger.add_chunk(database, 1, lease)
        ledger.add_segments(database, 1, 0, number, parts(number * 100, number * 100 + 100, 20))
        ledger.settle_chunk(database, 1, lease)
    count = database.execute("SELECT count(*) FROM sweep_segments").fetchone()[0]
    assert count <= ledger.SMALL_MAX + 1 < 500
    assert rows(ledger.segments_of(database, 1)) == {point: {"x": float(point)} for point in range(100, 10_100)}
    assert ledger.chunks_of(database, 1) == []


def test_streams_and_failures(database: sqlite3.Connection) -> None:
    one = sweep()
    ledger.add_sweep(database, one, progress(one))
    assert ledger.stream_position(database, "2.1") == 0
    ledger.add_chunk(database, 1, chunk(1, 0, 10))
    ledger.move_stream(database, 1, "2.1", 17)
    assert (ledger.stream_position(database, "2.1"), ledger.open_streams(database, 1)) == (17, ["2.1"])
    ledger.close_stream(database, 1, "2.1")
    assert (ledger.stream_position(database, "2.1"), ledger.open_streams(database, 1)) == (None, [])
    waiting = Failure(point=3, tries=1, kind="error", sentence="no", retry_at_s=5.0)
    final = Failure(point=4, tries=2, kind="crash", sentence="gone")
    ledger.put_failures(database, 1, 0, [waiting, final])
    assert ledger.failures_of(database, 1) == [waiting, final]
    assert ledger.failures_of(database, 1, waiting=True) == [waiting]
    ledger.remove_failures(database, 1, 0, [3])
    assert ledger.failures_of(database, 1) == [final]
