"""What may start before a job that waits: never anything that delays it, by the estimates that were promised."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.placing.conservative_plan import Plan
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.policy import TEXTBOOK_EASY, Backfill, Policy
from racksack_controller.core.rack.amounts import GPUS
from racksack_controller.core.rack.devices import GpuKind
from racksack_controller.core.records import Drain
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, gpus, inventory, job, node, report, request
from tests.sizes import sized

CONSERVATIVE = Policy(backfill=Backfill.CONSERVATIVE, predict=False)
FCFS = Policy(backfill=Backfill.NONE)


def busy(policy: Policy, *, limit_s: float = 1000.0) -> Bench:
    """One node of 8 CPUs: job 1 holds 6 of them for `limit_s` seconds, job 2 wants all 8."""
    bench = Bench(node())
    bench.submit(job(1, request(6), time_limit_s=limit_s))
    bench.run(1)
    bench.submit(job(2, request(8), time_limit_s=500.0))
    assert bench.place(policy) == []
    return bench


@pytest.mark.parametrize("policy", [TEXTBOOK_EASY, CONSERVATIVE, Policy()])
def test_a_short_job_goes_first_and_a_long_one_does_not(policy: Policy) -> None:
    bench = busy(policy)
    bench.submit(job(3, request(2), time_limit_s=5000.0), job(4, request(2), time_limit_s=900.0))
    assert [placed.job for placed in bench.place(policy)] == [4]


def test_without_backfill_nothing_goes_first() -> None:
    bench = busy(FCFS)
    bench.submit(job(4, request(2), time_limit_s=10.0))
    assert bench.place(FCFS) == []


def test_a_long_job_may_run_beside_the_reserving_one() -> None:
    bench = Bench(node())
    bench.submit(job(1, request(6), time_limit_s=1000.0))
    bench.run(1)
    bench.submit(job(2, request(6), time_limit_s=500.0), job(3, request(2), time_limit_s=99_999.0))
    assert [placed.job for placed in bench.place()] == [3]


def test_only_the_nodes_of_the_reservation_are_kept_free() -> None:
    bench = Bench(node("n1"), node("n2"))
    bench.submit(job(1, request(6), time_limit_s=1000.0, nodes=("n1",)), job(2, request(6), time_limit_s=2000.0))
    bench.run(1)
    bench.submit(job(3, request(8)), job(4, request(2), time_limit_s=99_999.0))
    [placed] = bench.place()
    assert (placed.job, placed.node) == (4, "n2")


def test_an_impossible_job_reserves_nothing() -> None:
    bench = busy(TEXTBOOK_EASY)
    bench.submit(job(3, request(99), priority=9), job(4, request(2), time_limit_s=99_999.0))
    assert bench.place() == []
    bench.submit(job(5, request(2), time_limit_s=10.0))
    assert [placed.job for placed in bench.place()] == [5]


def test_a_reservation_waits_for_a_cooling_node() -> None:
    bench = Bench(node(cool_until_s=1500.0), node("other"))
    bench.submit(job(1, request(8), nodes=("n1",)), job(2, nodes=("n1",)))
    assert bench.place() == []
    bench.now = 1500.0
    assert [placed.job for placed in bench.place()] == [1]


def test_devices_are_kept_for_the_job_that_waits_for_them() -> None:
    bench = Bench(node(inventory=inventory(16, devices=gpus(2))))
    bench.submit(job(1, request(1, gpu=1), time_limit_s=1000.0))
    bench.run(1)
    both = request(1, gpu=GpuRequest(2))
    bench.submit(job(2, both), job(3, request(1, gpu=1), time_limit_s=5000.0), job(4, time_limit_s=5000.0))
    assert [placed.job for placed in bench.place()] == [4]
    bench.submit(job(5, request(1, gpu=1), time_limit_s=500.0))
    assert [placed.job for placed in bench.place()] == [5]


@pytest.mark.parametrize("policy", [TEXTBOOK_EASY, CONSERVATIVE, Policy()])
def test_a_device_of_another_kind_is_not_kept_free(policy: Policy) -> None:
    devices = gpus(1, model="A100", prefix="a") + gpus(1, prefix="b")
    bench = Bench(node(inventory=inventory(16, devices=devices)), node("n2", inventory=inventory(1)))
    a100, rtx = GpuRequest(1, model="a100"), GpuRequest(1, model="3090")
    bench.submit(job(1, request(1, gpu=a100), time_limit_s=1000.0))
    bench.run(1)
    bench.submit(job(2, request(1, gpu=a100), time_limit_s=500.0), job(3, request(1, gpu=rtx), time_limit_s=900.0))
    assert [placed.job for placed in bench.place(policy)] == [3]
    bench.submit(job(4, request(1, gpu=a100), time_limit_s=500.0))
    assert bench.place(policy) == []


@settings(deadline=None, max_examples=sized(40, 400))
@given(st.data())
def test_the_plan_finds_the_moment_that_a_plain_search_finds(data: st.DataObject) -> None:
    bench = Bench(node("n1"), node("n2", inventory=inventory(16, devices=gpus(3))))
    draw = data.draw
    for number in range(1, draw(st.integers(1, 8))):
        wants = request(draw(st.integers(1, 6)), gpu=draw(st.sampled_from([None, 1, 0.5])))
        bench.submit(job(number, wants, time_limit_s=float(draw(st.integers(1, 50)) * 10)))
    bench.place(Policy(backfill=Backfill.GREEDY))
    room = FreeCapacity(bench.state.rack, bench.now, [])
    outlook = Outlook(room, bench.now, CONSERVATIVE, [])
    releases = outlook.releases(np.ones(2, dtype=np.bool_), predict=False)
    parts = outlook.device_parts(predict=False)
    plan = Plan(releases, room.devices, room.device_free.copy(), parts, bench.now)
    kind = draw(st.sampled_from([None, GpuKind(None, 0, 1, 1000), GpuKind(None, 0, 2, 1000), GpuKind(None, 0, 1, 500)]))
    need = np.array([draw(st.integers(1, 8)) * 1000, 0, 0 if kind is None else kind.devices * kind.milli, 0, 1])
    for _ in range(2):
        length = float(draw(st.integers(1, 60)) * 10)
        found = plan.first_start(need, np.ones(2, dtype=np.bool_), 1, length, kind)
        assert (None if found is None else (found[0], found[1].tolist())) == slowly(plan, need, length, kind)
        if found is not None:
            plan.reserve(found[0], [int(found[1][0])], need, length, kind)


def slowly(plan: Plan, need: np.ndarray, length_s: float, kind: GpuKind | None) -> tuple[int, list[int]] | None:
    """Every moment and every node, one by one."""
    for index, time_s in enumerate(plan.times):
        lasts = [at for at in range(index, len(plan.times)) if at == index or plan.times[at] < time_s + length_s]
        able = []
        for row in range(2):
            room = all(np.all(np.delete(plan.free[at, :, row] >= need, GPUS)) for at in lasts)
            if kind is not None:
                of_node = np.flatnonzero(plan.devices.row == row)
                good = [one for one in of_node if all(plan.device_free[at, one] >= kind.milli for at in lasts)]
                room = room and len(good) >= kind.devices
            if room:
                able.append(row)
        if able:
            return index, able
    return None


def test_predictions_open_the_way_and_limits_close_it_when_a_job_has_waited_long() -> None:
    bench = Bench(node())
    for number in (1, 2, 3):
        bench.submit(job(number, request(1), name="quick", time_limit_s=50_000.0))
        key = bench.run(number)
        bench.happen(ev.Reported("n1", report(key, "ended", started_at_s=0.0, ended_at_s=60.0)), ev.Collected(key))
    bench.submit(job(4, request(6), time_limit_s=1000.0))
    bench.run(4)
    quick = job(6, request(2), name="quick", time_limit_s=50_000.0, submitted_at_s=bench.now + 1)
    bench.submit(job(5, request(8), submitted_at_s=bench.now), quick)
    assert [placed.job for placed in schedule(bench.state, bench.now).placed] == [6]
    bench.now += 3600.0
    assert schedule(bench.state, bench.now).placed == []


@pytest.mark.parametrize(("waited_s", "first"), [(80_000.0, 4), (90_000.0, 3)])
def test_after_a_day_those_that_came_soon_after_the_first_go_by_age(waited_s: float, first: int) -> None:
    """Job 4 came late and is short, so that by expansion it is tried before job 3; there is room for one of them."""
    bench = Bench(node())
    bench.now = 200_000.0
    bench.submit(job(1, request(6), time_limit_s=9000.0))
    bench.run(1)
    came = bench.now - waited_s
    bench.submit(
        job(2, request(8), submitted_at_s=came), job(3, request(2), submitted_at_s=came + 5, time_limit_s=500.0)
    )
    bench.submit(job(4, request(2), submitted_at_s=bench.now - 3600.0, time_limit_s=10.0))
    assert [placed.job for placed in bench.place()] == [first]


@pytest.mark.parametrize("seed", range(12))
def test_a_whole_node_is_had_in_the_end_behind_an_endless_stream_of_small_jobs(seed: int) -> None:
    """The large job starts no later than the time limits of what ran when it came allow, whatever arrives after it."""
    rng = random.Random(seed)
    bench = Bench(node("n1"), node("n2"))
    ends: dict[str, float] = {}

    def small(number: int) -> None:
        bench.submit(job(number, request(rng.randint(1, 4)), time_limit_s=float(rng.randint(10, 400))))

    for number in range(1, 13):
        small(number)
    start(bench, ends)
    bench.submit(job(13, request(8), time_limit_s=100.0))
    promised = bench.now + 400.0 * 2  # at worst what runs, and what was ahead in the queue
    number = 13
    while bench.state.jobs[13].state == "queued" and bench.now < promised + 100.0:
        number += 1
        small(number)
        for key in [key for key, end_s in ends.items() if end_s <= bench.now]:
            bench.happen(ev.Reported(bench.state.attempts[key].node, report(key, "ended")), after_s=0.0)
            del ends[key]
        start(bench, ends)
        bench.now += 4.0
    assert bench.now <= promised
    assert bench.state.jobs[13].state == "running"


def test_without_reservations_the_same_job_waits_for_ever() -> None:
    """That the test above can fail: by greedy placement a stream of small jobs shuts the large one out."""
    bench = Bench(node())
    greedy = Policy(backfill=Backfill.GREEDY)
    bench.submit(job(1, request(4)), job(2, request(8)))
    for number in range(3, 40):  # the next small job is always there before the last one ends
        bench.submit(job(number, request(4)))
        bench.place(greedy)
        ended = 1 if number == 3 else number - 1
        bench.happen(ev.Reported("n1", report(f"{ended}.1", "ended")))
        assert bench.state.jobs[2].state == "queued"


def start(bench: Bench, ends: dict[str, float]) -> None:
    """Place what may start, and let it run for exactly its time limit."""
    for placed in bench.place():
        key = f"{placed.job}.1"
        bench.happen(ev.Reported(placed.node, report(key, started_at_s=bench.now)), after_s=0.0)
        ends[key] = bench.now + (bench.state.jobs[placed.job].spec.time_limit_s or 0.0)


@settings(deadline=None, max_examples=sized(40, 400))
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(10, 1000)), min_size=2, max_size=12), st.integers(1, 3))
def test_another_node_never_delays_the_first_job_that_waits(jobs: list[tuple[int, int]], nodes: int) -> None:
    def expected(count: int) -> float:
        bench = Bench(*(node(f"n{number}") for number in range(count)))
        bench.submit(*(job(n, request(c), time_limit_s=float(t)) for n, (c, t) in enumerate(jobs, start=1)))
        placed = {one.job for one in schedule(bench.state, 5000.0, FCFS).placed}
        waiting = [number for number in range(1, len(jobs) + 1) if number not in placed]
        return len(placed) if not waiting else waiting[0]

    assert expected(nodes + 1) >= expected(nodes)


@pytest.mark.parametrize("why", ["at a limit", "drained", "impossible", "of a partition that is full"])
@pytest.mark.parametrize(
    "policy", [CONSERVATIVE, TEXTBOOK_EASY, FCFS, Policy()], ids=["conservative", "easy", "fcfs", "ours"]
)
def test_jobs_that_may_not_run_hide_nobody(why: str, policy: Policy) -> None:
    """However many of them stand at the head of the queue."""
    bench = Bench(node(), node("n2", drain=Drain("a new fan", 0.0)))
    limits = {"at a limit": {"max_running_per_owner": 1}, "of a partition that is full": {"partition_limits": {"p": 1}}}
    policy = replace(policy, **limits.get(why, {}))
    kinds = {
        "at a limit": {},
        "drained": {"nodes": ("n2",)},
        "impossible": {"labels": ("none has it",)},
        "of a partition that is full": {"partition": "p"},
    }
    if why == "of a partition that is full":
        bench.state.put_node(replace(bench.state.nodes["n1"], partitions=("p",)))
    for number in range(1, 321):
        bench.submit(job(number, request(1 + number / 1000), priority=5, **kinds[why]))
    bench.submit(job(900, owner="bob"), job(901, request(8), owner="bob"), job(902, owner="carol"))
    first = {1} if "limit" in why or "partition" in why else set()
    assert {one.job for one in bench.place(policy)} >= first | {900}
    assert bench.state.jobs[320].state is JobState.QUEUED
