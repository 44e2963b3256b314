"""A start of the controller, however long it was away: jobs go on, and silence is counted from the first call."""

from __future__ import annotations

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.state import Allocation, State
from racksack_controller.core.step import Settings, step
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, inventory, job, node, report

LOST_AFTER_S = 600.0


def after_restart(running: bool) -> tuple[State, float]:
    """What a controller knows that starts an hour after its node connected and the job was placed."""
    bench = Bench(node(connected=False))
    bench.happen(
        ev.NodeConnected("n1", "b1", inventory(), ()),
        ev.JobAccepted(job(1)),
        ev.Placed(1, "n1", Allocation(cpus=1.0, ram_bytes=1), "room"),
    )
    if running:
        bench.happen(ev.Launched("1.1"), ev.Reported("n1", report("1.1")))
    known = bench.state.take_changes()
    fresh = State()
    fresh.load(known.jobs, known.attempts, known.nodes)
    return fresh, bench.now + 3600


def pass_time(state: State, now: float) -> None:
    step(state, [], now, Settings(lost_after_s=LOST_AFTER_S), PassMemory())


def test_nothing_is_given_up_before_the_node_was_called() -> None:
    for running in (True, False):
        state, now = after_restart(running)
        pass_time(state, now)
        assert state.jobs[1].state is (JobState.RUNNING if running else JobState.STAGING)
        assert state.jobs[1].attempt == 1


def test_silence_counts_from_the_first_call_even_if_its_reason_is_an_old_one() -> None:
    state, now = after_restart(running=True)
    reason = state.nodes["n1"].connection_reason
    apply(state, ev.NodeDisconnected("n1", reason), now)
    pass_time(state, now + LOST_AFTER_S - 1)
    assert state.jobs[1].state is JobState.RUNNING
    apply(state, ev.NodeDisconnected("n1", reason), now + LOST_AFTER_S - 1)
    pass_time(state, now + LOST_AFTER_S)
    assert state.jobs[1].state is JobState.QUEUED
