"""Preemption: only what allows it, only for more priority, only as much as it takes, and only where switched on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.placing.preempt import PREEMPTIONS_MAX, preemptions
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.state import State
from racksack_controller.core.why import why_job
from racksack_controller.simulate import invariants
from racksack_controller.simulate.engine import Replay
from racksack_controller.simulate.fleet import Fleet
from racksack_controller.simulate.workload import Task
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, gpus, inventory, job, node, report, request
from tests.sizes import sized

ON = Policy(preempt=True)


def rack() -> Bench:
    """Two nodes full of preemptible jobs; those on n2 have run longer."""
    bench = Bench(node("n1"), node("n2"))
    bench.submit(
        job(1, request(4), preemptible=True, nodes=("n2",)), job(2, request(4), preemptible=True, nodes=("n2",))
    )
    bench.run(1)
    bench.run(2)
    bench.now += 5000.0
    bench.submit(job(3, request(4), preemptible=True, nodes=("n1",)), job(4, request(4), nodes=("n1",)))
    bench.run(3)
    bench.run(4)
    return bench


def test_the_job_that_loses_least_work_is_ended_and_queued_again() -> None:
    bench = rack()
    bench.submit(job(5, request(4), priority=10))
    assert bench.place(ON) == []
    [event] = preemptions(bench.state, bench.now, ON, bench.memory.reservation)
    assert event.job == 3
    bench.happen(event)
    assert preemptions(bench.state, bench.now, ON, bench.memory.reservation) == []
    bench.happen(ev.Reported("n1", report("3.1", "ended", outcome="cancelled")), ev.Collected("3.1"))
    assert bench.state.jobs[3].state is JobState.QUEUED
    assert bench.state.jobs[3].retries_used == 0
    assert [placed.job for placed in bench.place(ON)] == [5]


def test_who_makes_room_is_warned_and_has_the_grace_it_asked_for() -> None:
    bench = Bench(node("n1"))
    bench.submit(job(1, request(8), preemptible=True, warn_s=3600.0, grace_s=90.0))
    bench.run(1)
    bench.submit(job(2, request(8), priority=10))
    bench.place(ON)
    bench.happen(*preemptions(bench.state, bench.now, ON, bench.memory.reservation))
    stop = bench.state.attempts["1.1"].stop
    assert stop is not None
    assert (stop.warn_s, stop.grace_s) == (600.0, 90.0), "no warning holds up the other for longer than ten minutes"


def test_nothing_is_ended_for_equal_priority_or_without_leave_or_in_vain() -> None:
    bench = rack()
    bench.submit(job(5, request(4)))
    bench.place(ON)
    assert preemptions(bench.state, bench.now, ON, bench.memory.reservation) == []
    bench.submit(job(6, request(8), priority=10, nodes=("n1",)))
    bench.place(ON)
    assert preemptions(bench.state, bench.now, ON, bench.memory.reservation) == []


def test_it_is_off_unless_asked_for() -> None:
    bench = rack()
    bench.submit(job(5, request(4), priority=10))
    bench.place()
    assert preemptions(bench.state, bench.now, Policy(), bench.memory.reservation) == []


def busy(bench: Bench, number: int, **spec: Any) -> None:
    bench.submit(job(number, spec.pop("wants"), preemptible=True, **spec))
    bench.run(number)


def test_devices_are_counted_and_nobody_is_ended_who_does_not_have_to() -> None:
    devices = gpus(2)
    bench = Bench(node("n1", inventory=inventory(8, 32, devices=devices)))
    busy(bench, 1, wants=request(1, gpu=1))
    busy(bench, 2, wants=request(1))
    busy(bench, 3, wants=request(1, gpu=0.5))
    bench.submit(job(4, request(1, gpu=2), priority=5))
    bench.place(ON)
    assert sorted(event.job for event in preemptions(bench.state, bench.now, ON, bench.memory.reservation)) == [1, 3]
    assert (
        preemptions(
            bench.state, bench.now, Policy(preempt=True, backfill=Backfill.CONSERVATIVE), bench.memory.reservation
        )
        != []
    )


def test_gangs_make_room_and_have_room_made_for_them() -> None:
    bench = Bench(node("n1"), node("n2"), node("n3"))
    busy(bench, 1, wants=request(8), gang=2)
    bench.submit(job(2, request(8), gang=2, priority=5))
    bench.place(ON)
    [event] = preemptions(bench.state, bench.now, ON, bench.memory.reservation)
    assert event.job == 1
    bench.happen(event)
    ranks = [attempt for attempt in bench.state.attempts.values() if attempt.job == 1]
    assert [rank.stop is not None and rank.stop.for_job for rank in ranks] == [2, 2]
    assert why_job(bench.reading(ON), bench.state.jobs[2]) == "job 1 is being ended to make room for it"


def test_the_place_is_kept_while_it_is_being_made() -> None:
    """Two jobs have to go; when the first has, nobody slips into its place."""
    bench = Bench(node("n1"))
    busy(bench, 1, wants=request(4))
    busy(bench, 2, wants=request(4))
    bench.submit(job(3, request(8), priority=5), *(job(number, request(1)) for number in range(10, 20)))
    bench.place(ON)
    bench.happen(*preemptions(bench.state, bench.now, ON, bench.memory.reservation))
    bench.happen(ev.Reported("n1", report("1.1", "ended", outcome="cancelled")), ev.Collected("1.1"))
    assert bench.place(ON) == []
    bench.happen(ev.Reported("n1", report("2.1", "ended", outcome="cancelled")), ev.Collected("2.1"))
    assert [placed.job for placed in bench.place(ON)] == [3]
    told = [sentence for number, _, _, sentence in bench.state.take_changes().events if number == 3]
    assert any("job 1, which may be preempted" in sentence for sentence in told)


@pytest.mark.parametrize("seed", range(sized(2, 20)))
def test_it_never_goes_round_in_circles(seed: int) -> None:
    """A stream of important jobs against small ones: each is ended a few times at most, and all end."""
    rng = random.Random(seed)
    tasks = [
        Task(
            number=number,
            submit_s=rng.uniform(0, 20_000),
            run_s=rng.choice([100.0, 1000.0, 5000.0]),
            limit_s=6000.0,
            processors=(cpus := rng.choice([1, 2, 4, 8])),
            user=rng.choice("ab"),
            program="p",
            priority=(priority := rng.choice([0, 0, 1, 2])),
            job=job(number, request(cpus), priority=priority, preemptible=True, time_limit_s=6000.0),
        )
        for number in range(1, 150)
    ]
    most: Counter[int] = Counter()

    def watch(state: State, _now: float) -> None:
        invariants.check(state)
        for one in state.jobs.values():
            most[one.id] = max(most[one.id], one.preemptions)

    replay = Replay(tasks, Fleet(tuple(node(f"n{at}") for at in range(3))), ON, watch=watch)
    outcomes = replay.run()
    assert all(outcome.ended_s is not None for outcome in outcomes)
    assert 0 < max(most.values()) <= PREEMPTIONS_MAX
    assert all(not most[number] for number, outcome in replay.outcomes.items() if outcome.task.priority == 2)
    waits = {
        priority: [one.started_s - one.task.submit_s for one in outcomes if one.task.priority == priority]
        for priority in (0, 2)
    }
    assert sum(waits[2]) / len(waits[2]) < sum(waits[0]) / len(waits[0])
