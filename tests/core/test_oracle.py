"""Decisions held against plain arithmetic: limits, reservations, devices that come free, gaps, launches.

`simulate.invariants` shows that nothing is overbooked; here it shows that nobody is held back without a reason.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_controller.core import events as ev
from racksack_controller.core.placing.backfill import Releases, first_moments, ready_moments
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Policy
from racksack_controller.core.power import events as pev
from racksack_controller.core.queue.job_queue import class_of
from racksack_controller.simulate import invariants
from racksack_jobspecs.spec import ArraySpec
from tests.core.builders import Bench, job, node, report, request
from tests.core.power_bench import PowerBench
from tests.sizes import sized

JOBS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from(["", "p", "q"]), st.sampled_from([None, 1, 2]), st.integers(1, 4)
    ),
    min_size=1,
    max_size=24,
)


@settings(deadline=None, max_examples=sized(60, 600))
@given(JOBS, st.sampled_from([None, 1, 2]), st.sampled_from([{}, {"p": 1}, {"p": 2, "q": 1}]), st.integers(0, 2))
def test_limits_hold_back_those_who_are_at_them_and_nobody_else(
    jobs: list[tuple[str, str, int | None, int]], per_owner: int | None, partitions: dict[str, int], rounds: int
) -> None:
    """Whoever waits although there is room is at a limit of his own, by a count in plain Python."""
    bench = Bench(node(partitions=("p", "q")), node("n2", partitions=("p", "q")))
    policy = Policy(max_running_per_owner=per_owner, partition_limits=partitions)
    for number, (owner, partition, at_once, cpus) in enumerate(jobs, start=1):
        array = {} if at_once is None else {"array": ArraySpec((0,), max_running=at_once), "array_id": at_once}
        bench.submit(job(number, request(cpus), owner=owner, partition=partition, **array))
    for _ in range(rounds + 1):
        bench.place(policy)
        invariants.check(bench.state)
        _nobody_waits_without_reason(bench, policy)
        for attempt in list(bench.state.attempts.values())[::2]:
            bench.happen(ev.Reported(attempt.node, report(attempt.key, "ended")), ev.Collected(attempt.key))


def _nobody_waits_without_reason(bench: Bench, policy: Policy) -> None:
    state = bench.state
    running = [state.jobs[one.job] for one in state.attempts.values() if one.state in ("staging", "running")]
    free = [int(cpus) // 1000 for cpus in (state.rack.total - state.rack.held)[0]]
    queued = [state.jobs[number] for number in state.queued_ids]
    for one in queued:
        alike = [other for other in running if other.owner == one.owner]
        at_limit = policy.max_running_per_owner is not None and len(alike) >= policy.max_running_per_owner
        most = policy.partition_limits.get(one.spec.partition)
        at_limit |= most is not None and sum(o.spec.partition == one.spec.partition for o in alike) >= most
        if one.spec.array is not None and one.spec.array.max_running:
            at_limit |= sum(o.array_id == one.array_id for o in running) >= one.spec.array.max_running
        has_room = max(free) >= one.spec.resources.cpus
        if has_room and not at_limit:  # only one that reserves may be in its way
            ahead = [o for o in queued if o.id < one.id and o.spec.resources.cpus > max(free)]
            assert ahead, f"job {one.id} of {one.owner} waits for nothing"


RELEASE = st.tuples(st.integers(0, 3), st.integers(1, 4), st.floats(1.0, 100.0))


@settings(deadline=None, max_examples=sized(100, 1000))
@given(st.lists(st.integers(0, 8), min_size=4, max_size=4), st.lists(RELEASE, max_size=12), st.integers(1, 9))
def test_first_moments_are_those_of_a_plain_loop(
    free: list[int], releases: list[tuple[int, int, float]], need: int
) -> None:
    given_back = Releases(
        np.array([free], dtype=np.int64),
        np.zeros(4),
        np.array([row for row, _, _ in releases], dtype=np.int64),
        np.array([[amount for _, amount, _ in releases]], dtype=np.int64),
        np.array([end for _, _, end in releases]),
    )
    found = first_moments(given_back, np.ones(4, dtype=np.bool_), np.array([need]), 0.5)
    for row, has in enumerate(free):
        moment, left = 0.5 if has >= need else np.inf, has
        for _, amount, end in sorted((one for one in releases if one[0] == row), key=lambda one: one[2]):
            left += amount
            if left >= need:
                moment = min(moment, end)
        assert found[row] == moment


PART = st.tuples(st.integers(0, 2), st.integers(1, 1000), st.floats(1.0, 100.0))


@settings(deadline=None, max_examples=sized(100, 1000))
@given(st.lists(PART, max_size=8), st.integers(1, 1000))
def test_devices_are_ready_when_a_plain_loop_says(parts: list[tuple[int, int, float]], milli: int) -> None:
    free = [1000 - sum(given for device, given, _ in parts if device == index) for index in range(3)]
    columns = [np.array([part[place] for part in parts]) for place in range(3)]
    device, given_back, ends = columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2].astype(float)
    found = ready_moments(np.array(free, dtype=np.int64), milli, device, given_back, ends)
    for index, has in enumerate(free):
        moment, left = np.inf, has
        for _, back, end in sorted((one for one in parts if one[0] == index), key=lambda one: one[2]):
            left += back
            if left >= milli:
                moment = min(moment, end)
        assert found[index] == moment


def test_shares_of_a_device_are_counted_one_by_one() -> None:
    """Halves that come back at 10 and 20: the whole device is there at 20."""
    found = ready_moments(np.array([0]), 1000, np.array([0, 0]), np.array([500, 500]), np.array([10.0, 20.0]))
    assert found.tolist() == [20.0]


@settings(deadline=None, max_examples=sized(50, 500))
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(10, 1000), st.booleans()), min_size=1, max_size=6),
    st.integers(1, 8),
    st.floats(0.0, 500.0),
)
def test_a_reservation_begins_when_plain_arithmetic_says(
    jobs: list[tuple[int, int, bool]], wants: int, cools_s: float
) -> None:
    """Also on a node that takes no jobs for a while, and holds some."""
    bench = Bench(node(), node("n2"))
    for number, (cpus, limit_s, first) in enumerate(jobs, start=1):
        where = ("n1",) if first else ("n2",)
        bench.submit(job(number, request(cpus), time_limit_s=float(limit_s), nodes=where))
    bench.place(Policy(backfill=TEXTBOOK_EASY.backfill, predict=False))
    bench.state.rack.cool_until[0] = bench.now + cools_s
    asked = job(99, request(wants))
    outlook = Outlook(FreeCapacity(bench.state.rack, bench.now, []), bench.now, DEFAULT)
    found = outlook.reserve(99, class_of(asked), hard=True)
    moments = []
    for name in ("n1", "n2"):
        there = [one for one in bench.state.attempts.values() if one.node == name]
        limits = {one.key: bench.state.jobs[one.job].spec.time_limit_s or 0.0 for one in there}
        ends = sorted((max(one.placed_at_s + limits[one.key], bench.now + 1.0), one.allocation.cpus) for one in there)
        left = 8 - sum(cpus for _, cpus in ends)
        moment = bench.now
        for end_s, cpus in ends:
            if left >= wants:
                break
            left, moment = left + cpus, end_s
        moments.append(max(moment, bench.now + cools_s if name == "n1" else bench.now))
    assert found is not None
    assert found.at_s == pytest.approx(min(moments))


def test_the_gap_between_jobs_is_smoothed() -> None:
    """How long there was nothing to do: the first time as it was, then half of the old and half of the new."""
    bench = PowerBench({"r1": 8}, idle_off_s=1e9, min_on_s=1e9)
    bench.connect("r1")
    lengths = [400.0, 100.0]
    for number, length_s in enumerate(lengths, start=1):
        bench.step()
        bench.now += length_s
        bench.submit(job(number, request(8)))
        bench.now -= 1.0  # a submission takes a second here
        bench.run(number)
        bench.step()
        bench.finish(number)
    first = bench.power("r1").gap_s
    assert first == pytest.approx(0.5 * 400.0 + 0.5 * 100.0, rel=0.05)


def test_a_launch_counts_once_and_only_of_a_known_attempt() -> None:
    bench = Bench(node(failures=3))
    bench.submit(job(1))
    bench.place()
    bench.happen(ev.Launched("9.9"))
    assert bench.state.nodes["n1"].failures == 3, "an attempt that nobody knows"
    bench.happen(ev.Launched("1.1"))
    assert (bench.state.nodes["n1"].failures, bench.state.attempts["1.1"].launched) == (0, True)
    bench.happen(ev.StartFailed("1.1", "node", "late news"))
    before = bench.state.attempts["1.1"]
    bench.state.put_attempt(before)
    bench.happen(ev.Launched("1.1"))
    assert bench.state.attempts["1.1"] is before, "the same news twice changes nothing"


def test_wakes_are_no_later_than_the_moment_that_changes_something() -> None:
    """A node that goes off at a time wakes the planner then; so do a hold that ends and a boot that is staggered."""
    bench = PowerBench({"r1": 8}, idle_off_s=300.0)
    bench.connect("r1")
    bench.step()
    plan = bench.plan()
    assert plan.wake_s == pytest.approx(bench.power("r1").idle_since_s + 300.0)  # type: ignore[operator]
    bench.happen(pev.PowerHeld("r1", bench.now + 100.0, "ann", "a look"))
    assert bench.plan().wake_s == pytest.approx(bench.state.power["r1"].hold.until_s)  # type: ignore[union-attr]
    bench.now += 400.0
    assert [type(one).__name__ for one in bench.plan().events] == ["SwitchOffDecided"], "the hold has ended"


def test_what_is_free_on_a_node_that_cools_is_what_nobody_holds() -> None:
    bench = Bench(node(), node("n2"))
    bench.submit(job(1, request(6, 8), nodes=("n1",)))
    bench.place()
    bench.state.rack.cool_until[:] = bench.now + 100.0
    outlook = Outlook(FreeCapacity(bench.state.rack, bench.now, []), bench.now, DEFAULT)
    releases = outlook.releases(np.ones(2, dtype=np.bool_), predict=False)
    assert releases.free[0].tolist() == [2000, 8000]
    assert releases.opens_s.tolist() == [bench.now + 100.0] * 2
