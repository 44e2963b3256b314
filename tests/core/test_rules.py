"""Gangs, shared devices, fair share, limits per owner, deadlines, history: one rule a test."""

from __future__ import annotations

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.policy import Policy, Rule
from racksack_controller.core.queue.fair_share import Usage
from racksack_controller.core.queue.history import History, history_key
from racksack_controller.core.records import Ending
from racksack_controller.simulate import invariants
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, gpus, inventory, job, node, report, request


def test_a_gang_starts_on_as_many_nodes_or_not_at_all() -> None:
    bench = Bench(node("n1"), node("n2"), node("n3", connected=False))
    bench.submit(job(1, request(8), gang=3))
    assert bench.place() == []
    bench.happen(ev.NodeConnected("n3", "b1", inventory(), ()))
    [placed] = bench.place()
    invariants.check(bench.state)
    assert {placed.node, *(part.node for part in placed.rest)} == {"n1", "n2", "n3"}
    bench.submit(job(2))
    assert bench.place() == []


def test_a_gang_reserves_particular_nodes() -> None:
    bench = Bench(node("n1"), node("n2"), node("n3"))
    bench.submit(job(1, request(8), time_limit_s=1000.0), job(2, request(8), time_limit_s=100.0))
    bench.run(1)
    bench.submit(job(3, request(8), gang=2), job(4, request(1), time_limit_s=5000.0))
    assert [placed.job for placed in bench.place()] == []
    bench.submit(job(5, request(1), time_limit_s=50.0))
    assert [placed.job for placed in bench.place()] == [5]


@pytest.mark.parametrize("rule", list(Rule))
def test_shares_of_a_device_add_up_to_one(rule: Rule) -> None:
    bench = Bench(node(inventory=inventory(32, devices=gpus(2))))
    policy = Policy(rule=rule)
    bench.submit(*(job(number, request(1, gpu=0.4)) for number in range(1, 7)))
    placed = bench.place(policy)
    invariants.check(bench.state)
    assert len(placed) == 4
    assert all(one.allocation.gpu_milli == 400 and len(one.allocation.gpus) == 1 for one in placed)


def test_a_share_goes_to_a_device_that_is_already_shared() -> None:
    bench = Bench(node(inventory=inventory(32, devices=gpus(4))))
    bench.submit(job(1, request(1, gpu=0.5)), job(2, request(1, gpu=0.5)), job(3, request(1, gpu=3)))
    placed = {one.job: one for one in bench.place()}
    assert placed[1].allocation.gpus == placed[2].allocation.gpus
    assert len(placed[3].allocation.gpus) == 3
    invariants.check(bench.state)


def test_a_share_comes_back_when_its_job_ends() -> None:
    bench = Bench(node(inventory=inventory(32, devices=gpus(1))))
    bench.submit(job(1, request(1, gpu=0.7)), job(2, request(1, gpu=1)))
    key = bench.run(1)
    assert bench.place() == []
    bench.happen(ev.Reported("n1", report(key, "ended")))
    assert [placed.job for placed in bench.place()] == [2]


def test_jobs_without_devices_leave_the_nodes_with_devices_alone() -> None:
    bench = Bench(node("gpu", inventory=inventory(8, devices=gpus(1))), node("plain", inventory=inventory(64)))
    bench.submit(job(1))
    assert [placed.node for placed in bench.place()] == ["plain"]


def test_a_limit_per_owner() -> None:
    bench = Bench(node())
    policy = Policy(max_running_per_owner=2)
    bench.submit(*(job(number) for number in range(1, 5)), job(5, owner="bob"))
    assert [placed.job for placed in bench.place(policy)] == [1, 2, 5]
    assert bench.place(policy) == []


def test_a_deadline_moves_a_job_ahead_but_not_past_priority() -> None:
    bench = Bench(node())
    soon = bench.now + 3600.0
    bench.submit(
        job(1, request(8), submitted_at_s=900.0),
        job(2, request(8), submitted_at_s=950.0, deadline_at_s=soon),
        job(3, request(8), submitted_at_s=990.0, priority=1),
    )
    order = []
    for _ in range(3):
        [placed] = bench.place()
        order.append(placed.job)
        bench.happen(ev.Reported("n1", report(f"{placed.job}.1", "ended")))
    assert order == [3, 2, 1]


def test_two_owners_with_equal_shares_and_unequal_load_come_to_equal_use() -> None:
    bench = Bench(node())
    bench.state.usage.half_life_s = 3600.0
    policy = Policy(fair_share=True)
    number, running, used = 1, {}, {"ann": 0.0, "bob": 0.0}
    bench.submit(*(job(n, request(2), owner="ann") for n in range(1, 401)))
    number = 401
    for step in range(300):
        if step % 2:
            bench.submit(*(job(number + n, request(2), owner="bob", submitted_at_s=bench.now) for n in range(3)))
            number += 3
        for key in [key for key, end_s in running.items() if end_s <= bench.now]:
            del running[key]
            bench.happen(ev.Reported("n1", report(key, "ended")), after_s=0.0)
        for placed in bench.place(policy):
            running[f"{placed.job}.1"] = bench.now + 120.0
            if step >= 100:
                used[bench.state.jobs[placed.job].owner] += 1
        bench.now += 60.0
    assert abs(used["ann"] - used["bob"]) <= 0.05 * sum(used.values())


def test_use_decays_by_half_in_a_half_life() -> None:
    usage = Usage(half_life_s=100.0)
    usage.change("ann", (1.0, 0.0, 0.0), 0.0)
    usage.change("ann", (-1.0, 0.0, 0.0), 50.0)
    at_once = usage.used("ann", 50.0)[0]
    assert 0.0 < at_once < 50.0
    assert usage.used("ann", 150.0)[0] == pytest.approx(at_once / 2)


def ending(run_s: float) -> Ending:
    return Ending(JobState.DONE, started_at_s=0.0, ended_at_s=run_s, ram_peak_bytes=5)


def test_the_last_two_runs_predict_the_next_of_the_same_name() -> None:
    history = History()
    one = job(1, name="fold1", time_limit_s=10_000.0)
    assert history.predict_s(history_key(one)) == -1
    for run_s in (900.0, 100.0, 200.0):
        history.add(one, ending(run_s))
    assert history.predict_s(history_key(job(2, name="fold2"))) == 150.0
    assert history.predict_s(history_key(job(2, name="fold2", owner="bob"))) == -1


def test_predictions_are_not_used_where_time_limits_tell_better() -> None:
    history = History()
    for run_s in (100.0, 5000.0, 50.0, 7000.0):
        history.add(job(1, time_limit_s=run_s), ending(run_s))
    assert history.predict_s(history_key(job(1))) == -1


def test_what_a_batch_placed_one_by_one_leaves_out_finds_room_by_moving_others() -> None:
    bench = Bench(node("n1", inventory=inventory(10)), node("n2", inventory=inventory(10)))
    sizes = [2, 2, 5, 5, 6]
    bench.submit(*(job(number, request(size)) for number, size in enumerate(sizes, start=1)))
    assert len(bench.place()) == 5
    invariants.check(bench.state)
