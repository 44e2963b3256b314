"""The decisions about sweeps: sets of points, sizes of chunks, retries, runners, and whom they make room for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racksack_controller.core.sweeps import rules
from racksack_controller.core.sweeps import sizes as sweep_sizes
from racksack_controller.core.sweeps.ranges import Ranges, ranges_of
from racksack_controller.core.sweeps.records import Progress
from racksack_jobspecs.states import JobState
from racksack_jobspecs.sweep.spec import Chunking, SweepSpec, Target
from tests.core.builders import inventory, job, node, request

spans = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 12)), max_size=40)


@given(spans)
def test_ranges_are_a_set(changes: list[tuple[bool, int, int]]) -> None:
    ranges, plain = Ranges(), set[int]()
    for adds, low, length in changes:
        span = set(range(low, low + length))
        if adds:
            ranges.add(low, low + length)
            plain |= span
        else:
            assert ranges.remove(low, low + length) == len(plain & span)
            plain -= span
        assert ranges.size == len(plain)
        assert [point for pair in ranges for point in range(*pair)] == sorted(plain)
        gaps = list(ranges)
        assert all(first[1] < second[0] for first, second in itertools.pairwise(gaps)), "merged"
        assert all((point in ranges) == (point in plain) for point in range(75))
    assert ranges_of(plain) == ranges
    taken = ranges.take(5)
    assert [point for pair in taken for point in range(*pair)] == sorted(plain)[:5]
    assert ranges.size == max(0, len(plain) - 5)


def size(
    waiting: int = 10**6, slots: int = 12, speed: float | None = 1.0, all_slots: int = 24, age_s: float = 0.0
) -> int:
    return sweep_sizes.chunk_points(
        Chunking(), waiting=waiting, slots=slots, speed=speed, all_slots=all_slots, age_s=age_s
    )


def test_chunks_grow_with_age_and_are_halved_at_the_end() -> None:
    assert size(speed=None) == 24
    assert size() == 60
    assert size(age_s=1000) == 1200
    assert size(age_s=1e6) == 3600
    left, sizes = 1000, []
    while left:
        sizes.append(size(waiting=left, age_s=1e6))
        left -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 250
    assert sizes[-1] <= 12
    assert size(speed=1e-4) == 12, "never fewer than workers"


def test_bounds_of_a_chunk() -> None:
    common: dict[str, Any] = {"waiting": 10_000, "slots": 4, "speed": 100.0, "all_slots": 4, "age_s": 0.0}
    assert sweep_sizes.chunk_points(Chunking(points_max=500), **common) == 500
    assert sweep_sizes.chunk_points(Chunking(points_min=3000), **common) == 3000
    assert sweep_sizes.chunk_points(Chunking(points_min=3000), **{**common, "waiting": 7}) == 7


def test_speeds_are_moving_averages_by_node_and_model() -> None:
    speeds = sweep_sizes.learn({}, ("r1", "RX 6600"), 10.0)
    speeds = sweep_sizes.learn(speeds, ("r1", "RX 6600"), 20.0)
    assert speeds == {"r1": pytest.approx(13.0), "RX 6600": pytest.approx(13.0)}
    assert sweep_sizes.known_speed(speeds, ("r2", "RX 6600")) == pytest.approx(13.0)
    assert sweep_sizes.known_speed(speeds, ("r2", "")) is None


def spec(**changes: Any) -> SweepSpec:
    return SweepSpec(target=Target(file="f.py", name="f"), **changes)


def test_retries_wait_longer_each_time_and_end() -> None:
    waits = []
    for tries in range(1, 6):
        failure = rules.after_failure(spec(retries=4, backoff_s=2.0), 7, tries, "error", "no", 0.1, "r1", 100.0)
        waits.append(failure.retry_at_s)
    assert waits == [102.0, 104.0, 108.0, 116.0, None]


def test_a_point_that_ends_its_runners_is_found_and_given_up() -> None:
    points, losses = 1000, 1
    while not rules.lost_for_good(spec(), losses, points):
        points = rules.suspect_points(losses, points)
        losses += 1
    assert points == 1
    assert losses <= 8


def test_too_many_failures() -> None:
    assert rules.too_many_failed(spec(), Progress(points=10, failed=10)) == ""
    assert rules.too_many_failed(spec(fails_max=3), Progress(points=10, failed=3)) == ""
    assert "more than the 3" in rules.too_many_failed(spec(fails_max=3), Progress(points=10, failed=4))
    assert "10%" in rules.too_many_failed(spec(fails_share_max=0.1), Progress(points=10, failed=2))


def test_runners_that_end_badly() -> None:
    assert rules.ended_badly(Progress(), JobState.FAILED, "no module x", was_ready=False) == "no module x"
    assert rules.ended_badly(Progress(faults=1), JobState.OOM, "", was_ready=True) == ""
    assert "3 runners in a row" in rules.ended_badly(Progress(faults=3), JobState.OOM, "", was_ready=False)
    assert "20 runners in a row" in rules.ended_badly(Progress(faults=20), JobState.OOM, "", was_ready=True)


def test_as_many_runners_as_fit_and_are_needed() -> None:
    draft = job(resources=request(cpus=4))
    rack = [node("a"), node("b", inventory=inventory(cpus=9), connected=False), node("c", inventory=inventory(cpus=2))]
    assert rules.places(draft, rack) == 4

    def wanted(waiting: int, working: int = 0, **changes: Any) -> int:
        return rules.runners_wanted(spec(**changes), waiting=waiting, slots=4, rack_places=4, working=working)

    assert wanted(1000) == 4
    assert wanted(1000, runners_max=2) == 2
    assert wanted(5) == 2
    assert wanted(0, working=3) == 3
    assert wanted(0) == 0
