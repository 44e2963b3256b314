"""Results in the order of their points: however segments interleave, each point comes once."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_controller.core.sweeps.records import Chunk
from racksack_controller.store import open_database, open_snapshot
from racksack_controller.sweeps.results import ledger
from racksack_controller.sweeps.results import windows as in_order
from racksack_controller.sweeps.results.segments import build
from racksack_controller.sweeps.results.windows import Extent, InOrder, windows_of
from tests.sweeps.builders import progress, segment, sweep


@given(st.lists(st.sets(st.integers(0, 3000), min_size=1, max_size=60), min_size=1, max_size=12), st.integers(1, 200))
@settings(deadline=None)
def test_windows_hold_each_point_of_each_segment_once(segments: list[set[int]], window: int) -> None:
    extents = [Extent(min(one), max(one) + 1, len(one), number) for number, one in enumerate(segments)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_order, "WINDOW", window)
        windows = list(windows_of(sorted(extents)))
    for one, after in itertools.pairwise(windows):
        assert one.high <= after.low, "windows come in order and do not overlap"
    for number, points in enumerate(segments):
        seen = [point for one in windows if number in one.segments for point in points if one.low <= point < one.high]
        assert sorted(seen) == sorted(points)


def test_results_of_interleaved_chunks_come_in_order_with_all_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_order, "WINDOW", 50)
    connection = open_database(tmp_path / "racksack.db")
    made = sweep()
    ledger.add_sweep(connection, made, progress(made))
    for chunk in range(4):
        points = list(range(chunk, 400, 4))
        ledger.add_segments(connection, 1, 0, chunk, [segment(points, [{f"m{chunk}": float(at)} for at in points])])
    snapshot = open_snapshot(tmp_path / "racksack.db")
    found = InOrder(snapshot, 1, 0)
    assert found.metrics == ["m0", "m1", "m2", "m3"]
    connection.execute("DELETE FROM sweep_segments")  # the snapshot does not see it
    seen: list[int] = []
    while (table := found.next_table(snapshot)) is not None:
        assert len(table) <= 100
        seen += table.points.tolist()
        for point, row in zip(table.points.tolist(), map(table.row, range(len(table))), strict=True):
            assert row == {f"m{point % 4}": float(point)}
    assert seen == list(range(400))
    snapshot.close()


def test_small_segments_are_put_together_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "POINTS_MAX", 100)
    connection = open_database(tmp_path / "racksack.db")
    made = sweep()
    ledger.add_sweep(connection, made, progress(made))
    for low in range(0, 3000, 10):
        numbers = np.arange(low, low + 10, dtype=np.int64)
        part = build(numbers, np.ones(10, dtype=np.float32), {"m": numbers * 2.0})
        ledger.add_segments(connection, 1, 0, 0, [part])
    ledger.settle_chunk(
        connection, 1, Chunk(number=9, run=0, attempt="2.1", node="r1", ranges=(), points=0, handed_at_s=0.0, losses=0)
    )
    kept = list(ledger.segments_of(connection, 1))
    assert len(kept) == 30
    assert [point for one in kept for point in one.numbers().tolist()] == list(range(3000))
