"""The tables of legal transitions, and whole lives of a job as stories of events."""

from __future__ import annotations

import msgspec
import pytest

from racksack_controller.core import events as ev
from racksack_controller.core import lifecycle
from racksack_controller.core.actions import Collect, Remove, Start, StopAttempt
from racksack_controller.core.apply import end_drains, lose_unreachable, requeue_unstaged
from racksack_controller.core.decide import decide, next_wake_s
from racksack_controller.core.records import Wait
from racksack_controller.core.why import why_node
from racksack_jobspecs.states import ACTIVE, FINAL, WAITING, JobState
from tests.core.builders import Bench, inventory, job, node, report, request


def test_every_state_has_its_place_in_the_tables() -> None:
    assert set(lifecycle.JOB) == set(JobState)
    assert set(lifecycle.ATTEMPT) == ACTIVE


@pytest.mark.parametrize("state", sorted(FINAL))
def test_an_ended_attempt_stays_ended(state: JobState) -> None:
    with pytest.raises(lifecycle.IllegalTransitionError, match=f"attempt 1.1 cannot go from {state} to running"):
        lifecycle.check(lifecycle.ATTEMPT, state, JobState.RUNNING, "attempt 1.1")


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_waiting_job_cannot_be_done(state: JobState) -> None:
    with pytest.raises(lifecycle.IllegalTransitionError):
        lifecycle.check(lifecycle.JOB, state, JobState.DONE, "job 1")


@pytest.mark.parametrize("state", [S for S in JobState if S not in ACTIVE])
def test_only_what_may_use_the_node_holds_resources(state: JobState) -> None:
    assert not lifecycle.holds_resources(state)
    assert lifecycle.holds_resources(JobState.RUNNING)
    assert not lifecycle.holds_resources(JobState.COLLECTING)


def test_a_job_from_submission_to_its_clean_end() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    assert decide(bench.state, bench.now) == []
    bench.place()
    assert decide(bench.state, bench.now) == [Start("n1", "1.1")]
    bench.happen(ev.Launched("1.1"))
    assert decide(bench.state, bench.now) == []
    bench.happen(ev.Reported("n1", report("1.1", "preparing")), ev.Reported("n1", report("1.1", "running")))
    assert bench.state.jobs[1].state is JobState.RUNNING
    bench.happen(ev.Reported("n1", report("1.1", "ended", exit_code=0)))
    assert decide(bench.state, bench.now) == [Collect("n1", "1.1")]
    bench.happen(ev.Collected("1.1"))
    assert bench.state.jobs[1].state is JobState.DONE
    assert decide(bench.state, bench.now) == [Remove("n1", "1.1")]
    bench.happen(ev.Removed("n1", "1.1"))
    assert decide(bench.state, bench.now) == []
    bench.state.take_changes()
    assert not bench.state.jobs
    assert not bench.state.attempts


def test_a_job_that_ends_before_its_first_report() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.place()
    bench.happen(ev.Reported("n1", report("1.1", "ended")), ev.Launched("1.1"))
    assert bench.state.jobs[1].state is JobState.COLLECTING


@pytest.mark.parametrize(
    ("outcome", "retry_on", "state"),
    [
        ("failed", ("exit",), JobState.QUEUED),
        ("failed", ("oom",), JobState.FAILED),
        ("oom", ("oom",), JobState.QUEUED),
        ("timeout", ("exit", "oom"), JobState.TIMEOUT),
        ("done", ("exit", "oom", "timeout"), JobState.DONE),
        ("prepare_failed", ("exit",), JobState.PREPARE_FAILED),
        ("lost", (), JobState.QUEUED),
    ],
)
def test_which_outcomes_are_tried_again(outcome: str, retry_on: tuple[str, ...], state: JobState) -> None:
    bench = Bench(node())
    bench.submit(job(1, retries=1, retry_on=retry_on))
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome=outcome)), ev.Collected(key))
    assert bench.state.jobs[1].state is state


@pytest.mark.parametrize(
    ("retry_on", "no_retry_on", "end", "state"),
    [
        (("exit:29", "exit:31"), (), {"exit_code": 31}, JobState.QUEUED),
        (("exit:29", "exit:31"), (), {"exit_code": 1}, JobState.FAILED),
        (("exit",), ("exit:2",), {"exit_code": 2}, JobState.FAILED),
        (("exit",), ("exit:2",), {"exit_code": 3}, JobState.QUEUED),
        (("exit:137",), (), {"exit_code": None, "signal": 9}, JobState.QUEUED),
        (("exit",), ("exit:137",), {"exit_code": None, "signal": 9}, JobState.FAILED),
    ],
)
def test_which_exit_codes_are_retried(
    retry_on: tuple[str, ...], no_retry_on: tuple[str, ...], end: dict[str, int | None], state: JobState
) -> None:
    bench = Bench(node())
    bench.submit(job(1, retries=1, retry_on=retry_on, no_retry_on=no_retry_on))
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome="failed", **end)), ev.Collected(key))
    assert bench.state.jobs[1].state is state


def test_the_first_retry_waits_as_long_as_the_job_says() -> None:
    bench = Bench(node())
    bench.submit(job(1, retries=9, retry_delay_s=1200.0))
    for wait_s in (1200.0, 2400.0, 3600.0, 3600.0):
        key = bench.run(1)
        bench.happen(ev.Reported("n1", report(key, "ended", outcome="failed")), ev.Collected(key))
        assert bench.state.jobs[1].not_before_s == bench.now + wait_s
        bench.now += wait_s


def test_retries_are_counted_and_spaced() -> None:
    bench = Bench(node())
    bench.submit(job(1, retries=2))
    for wait_s in (1.0, 2.0):
        key = bench.run(1)
        bench.happen(ev.Reported("n1", report(key, "ended", outcome="failed")), ev.Collected(key))
        assert bench.state.jobs[1].not_before_s == bench.now + wait_s
        assert bench.place() == []
        bench.now += wait_s
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome="failed")), ev.Collected(key))
    assert bench.state.jobs[1].state is JobState.FAILED
    assert bench.state.jobs[1].attempt == 3


def test_news_of_an_old_attempt_changes_nothing_and_ends_it() -> None:
    bench = Bench(node("n1"), node("n2"))
    bench.submit(job(1, nodes=("n1",)))
    key = bench.run(1)
    bench.happen(ev.NodeDisconnected("n1", "no answer"))
    bench.now += 1000.0
    lose_unreachable(bench.state, bench.now, 300.0)
    before = bench.state.jobs[1]
    bench.happen(ev.NodeConnected("n1", "b1", inventory(), (report(key),)))
    assert bench.state.jobs[1] == before
    [stop] = decide(bench.state, bench.now)
    assert isinstance(stop, StopAttempt)
    assert (stop.attempt, stop.stop.reason) == (key, "fenced")
    bench.happen(ev.StopSent("n1", key), ev.Reported("n1", report(key, "ended")))
    assert decide(bench.state, bench.now) == [Remove("n1", key)]


def test_a_restart_of_the_node_loses_what_it_has_no_trace_of() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.run(1)
    bench.happen(ev.NodeConnected("n1", "b2", inventory(), ()))
    one = bench.state.jobs[1]
    assert one.state is JobState.QUEUED
    assert (one.losses, one.avoid) == (1, ("n1",))


def test_a_job_is_cancelled_even_if_its_node_never_comes_back() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.run(1)
    bench.happen(ev.CancelRequested(1, "cancelled by ann"), ev.NodeDisconnected("n1", "no answer"))
    bench.now += 1000.0
    lose_unreachable(bench.state, bench.now, 300.0)
    assert bench.state.jobs[1].state is JobState.CANCELLED
    assert "cancelled by ann" in bench.state.jobs[1].reason


def test_a_drain_does_not_bring_a_cancelled_job_back() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.CancelRequested(1, "cancelled by ann"), ev.DrainRequested("n1", "new fan", now=True))
    bench.happen(ev.Reported("n1", report(key, "ended", outcome="cancelled")), ev.Collected(key))
    assert bench.state.jobs[1].state is JobState.CANCELLED


def test_a_drain_now_queues_a_running_job_again() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.DrainRequested("n1", "new fan", now=True))
    [stop] = decide(bench.state, bench.now)
    assert isinstance(stop, StopAttempt)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome="cancelled")), ev.Collected(key))
    assert bench.state.jobs[1].state is JobState.QUEUED
    assert bench.state.jobs[1].retries_used == 0


def test_cancelling_twice_and_after_the_end_is_harmless() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.happen(ev.CancelRequested(1, "cancelled by ann"), ev.CancelRequested(1, "again"))
    assert bench.state.jobs[1].reason == "cancelled by ann"
    bench.happen(ev.CancelRequested(77, "there is no such job"))


@pytest.mark.parametrize(("ends", "condition", "state"), [
    ("done", "ok", JobState.QUEUED),
    ("failed", "ok", JobState.CANCELLED),
    ("failed", "any", JobState.QUEUED),
])  # fmt: skip
def test_jobs_after_another(ends: str, condition: str, state: JobState) -> None:
    bench = Bench(node())
    bench.submit(job(1), job(2, after=(Wait(1, condition),)), job(3, after=(Wait(2),)))
    assert [placed.job for placed in bench.place()] == [1]
    bench.happen(ev.Launched("1.1"), ev.Reported("n1", report("1.1", "ended", outcome=ends)), ev.Collected("1.1"))
    assert bench.state.jobs[2].state is state
    assert (bench.state.jobs[2].waits_for == ()) == (state is JobState.QUEUED)
    assert bench.state.jobs[2].unsatisfiable == (state is JobState.CANCELLED)
    assert bench.state.jobs[3].state is state


def test_a_failing_node_takes_no_jobs_for_a_while_and_the_job_goes_elsewhere() -> None:
    bench = Bench(node("n1"), node("n2", inventory=inventory(16)))
    bench.submit(job(1))
    [first] = bench.place()
    assert first.node == "n1"
    bench.happen(ev.StartFailed("1.1", "node", "the disk is full"))
    assert bench.state.nodes["n1"].cool_until_s == bench.now + 5.0
    bench.now += 2.0
    [second] = bench.place()
    assert second.node == "n2"


def test_a_job_that_could_not_be_sent_in_time_is_taken_back() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.place()
    bench.happen(ev.NodeDisconnected("n1", "no answer"))
    requeue_unstaged(bench.state, bench.now + 19.0, 20.0)
    assert bench.state.jobs[1].state is JobState.STAGING
    requeue_unstaged(bench.state, bench.now + 20.0, 20.0)
    assert bench.state.jobs[1].state is JobState.QUEUED
    assert bench.state.jobs[1].avoid == ()


def test_a_failed_pull_is_asked_for_again_with_growing_delays() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended")))
    for delay_s in (1.0, 2.0, 4.0):
        bench.happen(ev.CollectFailed(key, "the disk is full"))
        assert decide(bench.state, bench.now) == []
        assert bench.state.attempts[key].retry_at_s == bench.now + delay_s
        bench.now += delay_s
        assert decide(bench.state, bench.now) == [Collect("n1", key)]


def test_held_jobs_do_not_start() -> None:
    bench = Bench(node())
    bench.submit(job(1, request(2)))
    bench.happen(ev.HoldRequested(1, "held by ann"))
    assert bench.place() == []
    bench.happen(ev.ReleaseRequested(1))
    assert [placed.job for placed in bench.place()] == [1]


def test_an_attempt_nobody_knows_is_ended_and_removed() -> None:
    bench = Bench(node())
    bench.happen(ev.NodeConnected("n1", "b1", inventory(), (report("9.1"),)))
    [stop] = decide(bench.state, bench.now)
    assert isinstance(stop, StopAttempt)
    bench.happen(ev.StopSent("n1", "9.1"))
    assert decide(bench.state, bench.now) == []
    bench.happen(ev.Reported("n1", report("9.1", "ended", outcome="cancelled")))
    assert decide(bench.state, bench.now) == [Remove("n1", "9.1")]
    bench.happen(ev.Removed("n1", "9.1"))
    assert decide(bench.state, bench.now) == []


def test_a_stop_that_the_old_connection_took_is_sent_again_over_the_new_one() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.CancelRequested(1, "cancelled by ann"), ev.StopSent("n1", key))
    assert decide(bench.state, bench.now) == []
    bench.happen(ev.NodeDisconnected("n1", "no answer"), ev.NodeConnected("n1", "b1", inventory(), (report(key),)))
    [stop] = decide(bench.state, bench.now)
    assert isinstance(stop, StopAttempt)
    assert stop.attempt == key


def test_a_drain_with_a_deadline_waits_for_it() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.DrainRequested("n1", "new fan", deadline_s=3600.0, then_off=True))
    drained_at = bench.now
    end_drains(bench.state, drained_at + 3599.0)
    assert decide(bench.state, drained_at + 3599.0) == []
    assert next_wake_s(bench.state, drained_at + 1.0, 1e9) == drained_at + 3600.0
    assert "59m" in why_node(bench.state, bench.state.nodes["n1"], drained_at + 20.0)
    for _ in range(2):  # it is asked for once, however often the clock is looked at
        end_drains(bench.state, drained_at + 3600.0)
        [stop] = decide(bench.state, drained_at + 3600.0)
        assert isinstance(stop, StopAttempt)
    bench.happen(ev.StopSent("n1", key))
    end_drains(bench.state, bench.now + 3601.0)
    assert decide(bench.state, bench.now + 3601.0) == []
    bench.happen(ev.Reported("n1", report(key, "ended", outcome="cancelled")), ev.Collected(key))
    assert bench.state.jobs[1].state is JobState.QUEUED
    assert bench.state.nodes["n1"].drain.then_off
    bench.happen(ev.ResumeRequested("n1"))
    assert bench.state.nodes["n1"].drain is None


def test_a_drain_warns_before_its_deadline_and_gives_the_grace_that_the_job_asked_for() -> None:
    bench = Bench(node())
    bench.submit(job(1, grace_s=45.0, warn_s=120.0))
    key = bench.run(1)
    bench.happen(ev.DrainRequested("n1", "new fan", deadline_s=3600.0))
    deadline_at_s = bench.now + 3600.0
    assert next_wake_s(bench.state, bench.now + 1.0, 1e9) == deadline_at_s - 120.0
    end_drains(bench.state, deadline_at_s - 121.0)
    assert decide(bench.state, deadline_at_s - 121.0) == []
    end_drains(bench.state, deadline_at_s - 120.0)
    [action] = decide(bench.state, deadline_at_s - 120.0)
    assert isinstance(action, StopAttempt)
    assert (action.attempt, action.stop.warn_s, action.stop.grace_s, action.stop.requeue) == (key, 120.0, 45.0, True)


def test_a_cancel_gives_the_grace_that_the_job_asked_for_unless_it_names_one() -> None:
    bench = Bench(node(), node("n2"))
    bench.submit(job(1, grace_s=45.0, warn_s=120.0), job(2, grace_s=45.0))
    for number in (1, 2):
        bench.run(number)
    bench.happen(ev.CancelRequested(1, "cancelled by ann"), ev.CancelRequested(2, "cancelled by ann", 1.0))
    stops = {
        action.attempt: action.stop for action in decide(bench.state, bench.now) if isinstance(action, StopAttempt)
    }
    assert {key: (stop.grace_s, stop.warn_s) for key, stop in stops.items()} == {"1.1": (45.0, 0.0), "2.1": (1.0, 0.0)}


@pytest.mark.parametrize("outcome", ["failed", "timeout"])
def test_an_exit_code_that_asks_for_another_run_costs_no_retry(outcome: str) -> None:
    bench = Bench(node())
    bench.submit(job(1, resubmit_on=(85,)))
    for number in range(1, 5):
        key = bench.run(1)
        assert key == f"1.{number}"
        began_s = bench.now
        bench.now += 100.0
        ended = report(key, "ended", outcome=outcome, exit_code=85, started_at_s=began_s)
        bench.happen(ev.Reported("n1", ended), ev.Collected(key))
        assert (bench.state.jobs[1].state, bench.state.jobs[1].retries_used) == (JobState.QUEUED, 0)
        assert bench.state.jobs[1].not_before_s <= bench.now
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome=outcome, exit_code=1)), ev.Collected(key))
    assert str(bench.state.jobs[1].state) == outcome


def test_who_asks_for_another_run_at_once_waits_longer_each_time_and_can_be_cancelled() -> None:
    bench = Bench(node())
    bench.submit(job(1, resubmit_on=(85,)))
    delays = []
    for _ in range(4):
        bench.now = max(bench.now, bench.state.jobs[1].not_before_s)
        key = bench.run(1)
        bench.happen(ev.Reported("n1", report(key, "ended", outcome="failed", exit_code=85)), ev.Collected(key))
        delays.append(bench.state.jobs[1].not_before_s - bench.now)
    assert delays == sorted(delays)
    assert delays[-1] >= 4.0
    bench.now = bench.state.jobs[1].not_before_s
    key = bench.run(1)
    ended = ev.Reported("n1", report(key, "ended", outcome="cancelled", exit_code=85))
    bench.happen(ev.CancelRequested(1, "cancelled by ann"), ended, ev.Collected(key))
    assert bench.state.jobs[1].state is JobState.CANCELLED


def test_what_a_cancelled_job_wrote_may_be_unwanted() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.CancelRequested(1, "cancelled by ann", discard=True))
    assert bench.state.attempts[key].stop.discard
    bench.happen(ev.Reported("n1", msgspec.structs.replace(report(key, "ended", outcome="cancelled"), output_files=9)))
    assert bench.state.attempts[key].ending.output_files == 0


def test_an_attempt_starts_once_an_earlier_one_of_its_job_that_still_runs_has_ended() -> None:
    """Its node was silent for long, and is back just as the job is placed again: there or elsewhere."""
    bench = Bench(node("n1", connected=False), node("n2"))
    bench.submit(job(1))
    bench.state.put_job(msgspec.structs.replace(bench.state.jobs[1], attempt=1))
    bench.happen(ev.NodeConnected("n1", "b1", inventory(), (report("1.1", "running"),)))
    assert ("n1", "1.1") in bench.state.orphans
    [placed] = bench.place()
    assert placed.job == 1
    fence = [action for action in decide(bench.state, bench.now) if isinstance(action, StopAttempt)]
    assert [one.attempt for one in fence] == ["1.1"]
    assert not [action for action in decide(bench.state, bench.now) if isinstance(action, Start)]
    bench.happen(ev.StopSent("n1", "1.1"), ev.Reported("n1", report("1.1", "ended", outcome="cancelled")))
    assert [action.attempt for action in decide(bench.state, bench.now) if isinstance(action, Start)] == ["1.2"]


def test_nothing_starts_beside_what_was_given_up_and_still_runs() -> None:
    """It uses what the scheduler takes for free."""
    bench = Bench(node("n1", connected=False))
    bench.happen(ev.NodeConnected("n1", "b1", inventory(), (report("7.1", "running"),)))
    bench.submit(job(8))
    [placed] = bench.place()
    assert placed.job == 8
    assert not [action for action in decide(bench.state, bench.now) if isinstance(action, Start)]
    bench.happen(ev.StopSent("n1", "7.1"), ev.Reported("n1", report("7.1", "ended", outcome="cancelled")))
    assert [action.attempt for action in decide(bench.state, bench.now) if isinstance(action, Start)] == ["8.1"]
