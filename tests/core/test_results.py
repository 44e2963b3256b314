"""Results that cannot be had whole are lost and run again; nobody waits for ever for what does not come."""

from __future__ import annotations

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.apply import COLLECT_TRIES_MAX, START_TRIES_MAX
from racksack_controller.core.jobs.requeue import LOSSES_MAX, PREPARE_DELAYS_S
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report

DONE, FAILED, QUEUED, CANCELLED = JobState.DONE, JobState.FAILED, JobState.QUEUED, JobState.CANCELLED


def collecting(outcome: str = "done") -> Bench:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome=outcome)))
    assert bench.state.jobs[1].state is JobState.COLLECTING
    return bench


@pytest.mark.parametrize(("outcome", "state"), [("done", QUEUED), ("failed", FAILED)])
def test_results_that_are_gone_are_lost_and_never_done(outcome: str, state: JobState) -> None:
    bench = collecting(outcome)
    bench.happen(ev.CollectFailed("1.1", "n1 has no attempt 1.1 any more", gone=True))
    assert bench.state.jobs[1].state is state
    assert bench.state.jobs[1].losses == (outcome == "done")


def test_a_node_that_finds_its_outputs_damaged_while_they_are_pulled_is_believed() -> None:
    bench = collecting()
    bench.happen(ev.Reported("n1", report("1.1", "ended", outcome="lost", reason="restarted too early")))
    bench.happen(ev.Collected("1.1"))
    assert bench.state.jobs[1].state is QUEUED
    assert bench.state.jobs[1].losses == 1


def test_what_never_arrives_is_given_up_but_not_for_a_full_disk() -> None:
    bench = collecting()
    for _ in range(3 * COLLECT_TRIES_MAX):
        bench.happen(ev.CollectFailed("1.1", "the controller's disk is full"))
    assert bench.state.jobs[1].state is JobState.COLLECTING
    assert bench.state.attempts["1.1"].retry_at_s - bench.now <= 5.0  # once there is space it goes on at once
    bench.happen(ev.CollectFailed("1.1", "5 files arrived, but the node reported 4", counts=True))
    assert bench.state.jobs[1].state is QUEUED


@pytest.mark.parametrize(("failed", "cancel", "state"), [
    (False, {}, JobState.COLLECTING),
    (True, {}, CANCELLED),
    (False, {"discard": True}, CANCELLED),
    (False, {"signal": "KILL", "grace_s": 0.0}, CANCELLED),
])  # fmt: skip
def test_a_cancel_ends_the_wait_for_results(failed: bool, cancel: dict[str, object], state: JobState) -> None:
    bench = collecting()
    if failed:
        bench.happen(ev.CollectFailed("1.1", "permission denied", counts=True))
    bench.happen(ev.CancelRequested(1, "cancelled by ann", **cancel))  # type: ignore[arg-type]
    assert bench.state.jobs[1].state is state
    bench.happen(ev.Collected("1.1"))
    assert bench.state.jobs[1].state is (CANCELLED if state is CANCELLED else DONE)


def test_a_drain_does_not_wait_for_results_that_do_not_come() -> None:
    bench = collecting()
    bench.happen(ev.DrainRequested("n1", "new disk", now=True))
    assert bench.state.jobs[1].state is JobState.COLLECTING
    bench.happen(ev.CollectFailed("1.1", "permission denied", counts=True))
    bench.happen(ev.DrainRequested("n1", "new disk", now=True))
    assert bench.state.jobs[1].state is QUEUED


def test_a_start_that_the_controller_cannot_make_is_tried_elsewhere_in_the_end() -> None:
    bench = Bench(node("n1"), node("n2"))
    bench.submit(job(1))
    [placed] = bench.place()
    for _ in range(START_TRIES_MAX + 1):
        assert bench.state.jobs[1].state is JobState.STAGING
        bench.happen(ev.StartFailed("1.1", "controller", "put: no such file"))
    assert bench.state.jobs[1].state is QUEUED
    assert bench.state.jobs[1].avoid == (placed.node,)


def test_an_attempt_of_another_store_with_the_same_number_is_ended_first() -> None:
    from racksack_controller.core.actions import Remove, Start, StopAttempt
    from racksack_controller.core.decide import decide

    bench = Bench(node())
    bench.state.epoch = "ours"
    bench.submit(job(1))
    bench.place()
    bench.happen(ev.Reported("n1", report("1.1", epoch="theirs")))
    [stop] = decide(bench.state, bench.now)
    assert isinstance(stop, StopAttempt)
    bench.happen(ev.StopSent("n1", "1.1"), ev.Reported("n1", report("1.1", "ended", epoch="theirs")))
    assert [type(action) for action in decide(bench.state, bench.now)] == [Remove]
    bench.happen(ev.Removed("n1", "1.1"))
    assert [type(action) for action in decide(bench.state, bench.now)] == [Start]
    assert bench.state.jobs[1].state is JobState.STAGING


def test_what_a_node_could_not_prepare_is_tried_elsewhere_and_later() -> None:
    bench = Bench(node("n1"), node("n2"))
    bench.submit(job(1))
    tried, waited_s = [], []
    for _ in range(LOSSES_MAX):
        key = bench.run(1)
        where = bench.state.attempts[key].node
        tried.append(where)
        failed = report(key, "ended", outcome="prepare_failed", at_fault="node", reason="no way to the index")
        bench.happen(ev.Reported(where, failed), ev.Collected(key))
        assert bench.state.jobs[1].state is QUEUED
        waited_s.append(bench.state.jobs[1].not_before_s - bench.now)
        bench.now = bench.state.jobs[1].not_before_s
    assert set(tried[:2]) == {"n1", "n2"}
    assert waited_s == list(PREPARE_DELAYS_S)
    key = bench.run(1)
    failed = report(key, "ended", outcome="prepare_failed", at_fault="node", reason="no way to the index")
    bench.happen(ev.Reported(bench.state.attempts[key].node, failed), ev.Collected(key))
    ended = bench.state.jobs[1]
    assert (ended.state, ended.reason) == (JobState.PREPARE_FAILED, "no way to the index")


def test_a_program_that_failed_is_no_fault_of_the_node_whatever_that_says() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome="failed", at_fault="node")), ev.Collected(key))
    assert bench.state.jobs[1].state is FAILED


@pytest.mark.parametrize(("outcome", "state"), [("lost", CANCELLED), ("failed", FAILED), ("done", DONE)])
def test_a_cancel_while_results_come_lets_them_come_and_nothing_run_again(outcome: str, state: JobState) -> None:
    bench = Bench(node())
    bench.submit(job(1, retries=3))
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome=outcome)))
    bench.happen(ev.CancelRequested(1, "cancelled by ann"))
    assert bench.state.jobs[1].state is JobState.COLLECTING
    bench.happen(ev.Collected(key))
    assert bench.state.jobs[1].state is state


def test_a_cancel_while_results_come_counts_also_if_they_never_do() -> None:
    bench = collecting()
    bench.happen(ev.CancelRequested(1, "cancelled by ann"))
    bench.happen(ev.CollectFailed("1.1", "n1 has no attempt 1.1 any more", gone=True))
    assert bench.state.jobs[1].state is CANCELLED
