"""Preemption: only what allows it, only for more priority, only as much as it takes, and only where switched on."""

from __future__ import annotations

from racksack_controller.core import events as ev
from racksack_controller.core.policy import Policy
from racksack_controller.core.preempt import preemptions
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report, request

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
    [event] = preemptions(bench.state, bench.now, ON)
    assert event.job == 3
    bench.happen(event)
    assert preemptions(bench.state, bench.now, ON) == []
    bench.happen(ev.Reported("n1", report("3.1", "ended", outcome="cancelled")), ev.Collected("3.1"))
    assert bench.state.jobs[3].state is JobState.QUEUED
    assert bench.state.jobs[3].retries_used == 0
    assert [placed.job for placed in bench.place(ON)] == [5]


def test_nothing_is_ended_for_equal_priority_or_without_leave_or_in_vain() -> None:
    bench = rack()
    bench.submit(job(5, request(4)))
    bench.place(ON)
    assert preemptions(bench.state, bench.now, ON) == []
    bench.submit(job(6, request(8), priority=10, nodes=("n1",)))
    bench.place(ON)
    assert preemptions(bench.state, bench.now, ON) == []


def test_it_is_off_unless_asked_for() -> None:
    bench = rack()
    bench.submit(job(5, request(4), priority=10))
    bench.place()
    assert preemptions(bench.state, bench.now, Policy()) == []
