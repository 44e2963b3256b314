"""The states of a node's power: what leads where, what a restart makes of each, and that no failure is for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core import lifecycle
from racksack_controller.core.actions import SwitchOff, SwitchOn
from racksack_controller.core.decide import decide
from racksack_controller.core.power import events as pev
from racksack_controller.core.power.apply import note_boot
from racksack_controller.core.power_records import (
    BOOT_GUESS_S,
    Measured,
    OperatorRequest,
    Phase,
    PowerRecord,
    boot_limit_s,
)
from racksack_controller.core.records import Node
from racksack_controller.core.state import State
from racksack_controller.core.why import why_node
from racksack_controller.store import Store, power_story, save_changes
from racksack_jobspecs.states import JobState, NodeState
from tests.core.builders import job, report, request
from tests.core.power_bench import BOOT_S, PowerBench, traits


def test_every_phase_leads_somewhere_and_none_is_the_end() -> None:
    assert set(lifecycle.POWER) == set(Phase)
    reachable = {Phase.UNKNOWN}
    for _ in Phase:
        reachable |= {new for old in reachable for new in lifecycle.POWER[old]}
    assert reachable == set(Phase)
    assert all(Phase.ON in lifecycle.POWER[phase] for phase in Phase if phase is not Phase.ON)


def booting() -> PowerBench:
    bench = PowerBench({"r1": 8})
    bench.submit(job(1, request(4)))
    assert bench.step() == ["SwitchOn r1"]
    return bench


def stopping() -> PowerBench:
    bench = PowerBench({"r1": 8}, on=True, idle_off_s=60.0)
    bench.step()
    bench.now += 60.0
    assert bench.step() == ["SwitchOff r1"]
    return bench


def set_aside() -> PowerBench:
    bench = booting()
    bench.happen(pev.PowerSwitched("r1", True, False, "it did not come up within 10 min"))
    return bench


PHASES = {
    Phase.UNKNOWN: lambda: PowerBench({}),
    Phase.OFF: lambda: PowerBench({"r1": 8}),
    Phase.BOOTING: booting,
    Phase.ON: lambda: PowerBench({"r1": 8}, on=True),
    Phase.STOPPING: stopping,
    Phase.SET_ASIDE: set_aside,
}


def restarted(bench: PowerBench, path: Path) -> State:
    """What a controller that was killed after this step reads from its store."""
    store = Store(path / "racksack.db")
    save_changes(store._writer, bench.state.take_changes())
    store.close()
    again = Store(path / "racksack.db")
    state = again.load()
    again.close()
    state.power_traits = dict(bench.state.power_traits)
    return state


@pytest.mark.parametrize("phase", list(Phase))
def test_a_restart_goes_on_in_every_phase(phase: Phase, tmp_path: Path) -> None:
    bench = PHASES[phase]()
    if phase is Phase.UNKNOWN:
        bench.happen(ev.NodeConfigured(PowerBench({"r1": 8}).state.nodes["r1"]), pev.PowerConfigured("r1", traits()))
    before = bench.state.power["r1"]
    assert before.phase is phase
    asked = [action for action in decide(bench.state, bench.now) if isinstance(action, SwitchOn | SwitchOff)]
    state = restarted(bench, tmp_path)
    assert state.power["r1"] == before
    again = [action for action in decide(state, bench.now) if isinstance(action, SwitchOn | SwitchOff)]
    assert again == asked
    assert bool(asked) == (phase in (Phase.BOOTING, Phase.STOPPING))
    assert not state.rack.powered[state.rack.row["r1"]] or phase in (Phase.ON, Phase.UNKNOWN)


def test_a_boot_goes_on_with_the_way_and_the_time_that_are_left(tmp_path: Path) -> None:
    bench = booting()
    [fresh] = decide(bench.state, bench.now)
    assert fresh == SwitchOn("r1", "", 600.0)
    bench.asked("r1", "on", "redfish")
    state = restarted(bench, tmp_path)
    assert decide(state, bench.now + 450.0) == [SwitchOn("r1", "redfish", 150.0)]


def test_the_story_of_every_step_is_kept(tmp_path: Path) -> None:
    bench = booting()
    bench.asked("r1", "on", "redfish")
    bench.connect("r1", after_s=BOOT_S)
    store = Store(tmp_path / "racksack.db")
    save_changes(store._writer, bench.state.take_changes())
    lines = store.look(lambda connection: power_story(connection, 0.0, node="r1"))
    store.close()
    assert [(line.kind, line.way) for line in lines][-3:] == [("on", ""), ("step", "redfish"), ("switched", "redfish")]
    assert "is on after" in lines[-1].sentence


def test_a_job_is_placed_only_when_the_agent_has_answered() -> None:
    bench = booting()
    bench.asked("r1", "on")
    bench.happen(pev.PowerStepped("r1", "bmc", "confirm", "confirmed", "the BMC says On"))
    assert bench.place() == []
    assert bench.state.node_state(bench.state.nodes["r1"]) is NodeState.BOOTING
    bench.connect("r1", after_s=BOOT_S)
    assert [placed.node for placed in bench.place()] == ["r1"]
    assert bench.power("r1").boots.count == 1
    assert bench.power("r1").boots.last_s == pytest.approx(BOOT_S + 1.0)


def test_a_node_that_fails_to_boot_is_tried_again_by_itself_after_growing_delays() -> None:
    bench = booting()
    delays = []
    for _ in range(5):
        began = bench.now
        bench.happen(pev.PowerSwitched("r1", True, False, "it did not come up"))
        assert bench.phase("r1") is Phase.SET_ASIDE
        assert "set aside" in why_node(bench.state, bench.state.nodes["r1"], bench.now)
        assert "it did not come up" in why_node(bench.state, bench.state.nodes["r1"], bench.now)
        assert bench.step() == []
        wake = bench.plan().wake_s
        assert wake is not None
        bench.now = wake
        assert bench.step() == ["SwitchOn r1"]
        delays.append(bench.now - began)
    assert delays == sorted(delays)
    assert delays[-1] > 8 * delays[0]
    bench.connect("r1")
    assert bench.power("r1").failures == 0


def test_its_jobs_are_planned_elsewhere_at_once() -> None:
    bench = PowerBench({"r1": 8})
    bench.add("r2", 8, boot_s=300.0)
    bench.submit(job(1, request(4)))
    assert bench.step() == ["SwitchOn r1"]
    bench.happen(pev.PowerSwitched("r1", True, False, "wrong password"))
    assert bench.step() == ["SwitchOn r2"]


def test_a_boot_that_is_late_is_believed_and_the_time_is_learnt() -> None:
    bench = booting()
    bench.now += 700.0
    bench.happen(pev.PowerSwitched("r1", True, False, "it did not come up within 600 s"))
    bench.connect("r1", after_s=30.0)
    assert bench.phase("r1") is Phase.ON
    assert bench.place()


def test_the_limit_of_a_boot_is_learnt_from_boots() -> None:
    node = PowerRecord(node="r1")
    assert boot_limit_s(node, traits(boot_timeout_s=600.0)) == 600.0
    steady = Measured()
    for _ in range(20):
        steady = steady.add(100.0)
    learnt = PowerRecord(node="r1", boots=steady)
    assert boot_limit_s(learnt, traits()) == 300.0, "time for a check of the file system"
    assert boot_limit_s(learnt, traits(boot_timeout_s=240.0)) == 240.0
    slow = PowerRecord(node="r1", boots=Measured().add(900.0))
    assert boot_limit_s(slow, traits(boot_timeout_s=600.0)) == 1800.0
    assert BOOT_GUESS_S < 600.0
    promised = {"boot_timeout_s": 900.0, "boot_timeout_is_set": True}
    assert boot_limit_s(learnt, traits(**promised)) == 900.0, "what is configured is never cut short"
    assert boot_limit_s(node, traits(**promised)) == 900.0
    long = Measured().add(800.0).add(800.0).add(800.0)
    assert boot_limit_s(PowerRecord(node="r1", boots=long), traits(**promised)) >= 1600.0, "but a slow node gets more"


def test_a_node_that_was_switched_behind_our_back_is_believed() -> None:
    bench = PowerBench({"r1": 8})
    bench.happen(pev.PowerSeen("r1", True, "the BMC says On"))
    assert bench.phase("r1") is Phase.UNKNOWN
    bench.connect("r1")
    assert bench.phase("r1") is Phase.ON
    bench.submit(job(1, request(4)))
    bench.run(1)
    bench.happen(ev.NodeDisconnected("r1", "no answer"), pev.PowerSeen("r1", False, "the BMC says Off"))
    assert bench.phase("r1") is Phase.OFF
    assert bench.state.jobs[1].state is JobState.QUEUED, "what ran there is over, and is not waited for"
    bench.now += 2.0  # after the delay of a job that lost its node
    assert bench.step() == ["SwitchOn r1"]


def test_results_on_a_node_that_went_dark_are_fetched() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.submit(job(1, request(4)))
    key = bench.run(1)
    bench.happen(ev.Reported("r1", report(key, "ended")), ev.NodeDisconnected("r1", "no answer"))
    bench.happen(pev.PowerSeen("r1", False, "the BMC says Off"))
    assert bench.state.jobs[1].state is JobState.COLLECTING
    assert bench.step() == ["SwitchOn r1"]
    assert bench.power("r1").why == "the results of job 1 are on it"


def test_what_is_on_but_does_not_come_up_is_switched_off_again() -> None:
    bench = booting()
    bench.asked("r1", "on")
    bench.happen(
        pev.PowerStepped("r1", "bmc", "confirm", "confirmed", "On"),
        pev.PowerStepped("r1", "bmc", "verify", "stuck", "SSH does not answer"),
        pev.PowerSwitched("r1", True, False, "it is on but SSH does not answer"),
    )
    assert bench.step() == ["SwitchOff r1"]
    bench.happen(pev.PowerSwitched("r1", False, True, "Off"))
    assert bench.phase("r1") is Phase.SET_ASIDE, "off, and still left alone for a while"
    bench.now = bench.power("r1").retry_at_s
    assert bench.step() == ["SwitchOn r1"]


def test_a_shutdown_that_fails_leaves_a_node_that_still_answers_at_work() -> None:
    bench = stopping()
    bench.asked("r1", "soft_off")
    bench.happen(pev.PowerSwitched("r1", False, False, "it still answers after 180 s"))
    assert bench.phase("r1") is Phase.ON
    assert bench.step() == [], "not at once again"
    bench.submit(job(1, request(4)))
    assert bench.step() == []
    assert bench.state.jobs[1].state is JobState.STAGING


def test_a_shutdown_that_nobody_confirmed_keeps_no_job_waiting() -> None:
    """A BMC that refuses its password cannot say that the server is off; a boot proves more than waiting."""
    bench = stopping()
    bench.asked("r1", "soft_off")
    bench.happen(ev.NodeDisconnected("r1", "it is silent"), pev.PowerSwitched("r1", False, False, "wrong password"))
    assert bench.phase("r1") is Phase.SET_ASIDE
    assert bench.step() == [], "not at once again"
    bench.submit(job(1, request(4)))
    assert bench.step() == ["SwitchOn r1"]
    bench.happen(pev.PowerSwitched("r1", True, False, "it did not come up"))
    assert bench.step() == [], "now it is left alone"


def off_by_silence() -> PowerBench:
    bench = stopping()
    bench.asked("r1", "soft_off", "ssh")
    bench.happen(
        ev.NodeDisconnected("r1", "it is silent"),
        pev.PowerStepped("r1", "ssh", "verify", "done", "it is silent"),
        pev.PowerSwitched("r1", False, True, "it is silent"),
    )
    assert bench.phase("r1") is Phase.OFF
    return bench


def test_a_crash_that_was_taken_for_off_is_found_out_and_switched_off_again() -> None:
    bench = off_by_silence()
    bench.happen(pev.PowerSeen("r1", True, "the BMC says On"))
    assert bench.step() == [], "somebody may have switched it on, and it boots"
    assert "it stopped answering after its shutdown, but the BMC says On" in why_node(
        bench.state, bench.state.nodes["r1"], bench.now
    )
    wake = bench.plan().wake_s
    assert wake is not None
    bench.now = wake
    assert bench.step() == ["SwitchOff r1"]
    bench.happen(pev.PowerSwitched("r1", False, True, "the BMC says Off"))
    assert bench.phase("r1") is Phase.OFF


def test_one_that_somebody_switched_on_after_its_silence_is_on_when_it_answers() -> None:
    bench = off_by_silence()
    bench.happen(pev.PowerSeen("r1", True, "the BMC says On"))
    bench.connect("r1")
    assert bench.phase("r1") is Phase.ON
    assert bench.power("r1").stops_failed == 0
    bench = off_by_silence()
    bench.happen(pev.PowerSeen("r1", False, "the BMC says Off"))
    assert (bench.phase("r1"), bench.power("r1").seen_on) == (Phase.OFF, False)


def test_somebody_who_logs_in_before_anybody_was_asked_keeps_the_node_on() -> None:
    bench = stopping()
    bench.happen(pev.LoginsSeen("r1", 1))
    assert bench.step() == ["SwitchWithdrawn r1"]
    assert bench.phase("r1") is Phase.ON
    bench = stopping()
    bench.asked("r1", "soft_off")
    bench.happen(pev.LoginsSeen("r1", 1))
    assert bench.step() == [], "it is going down already"


def test_a_hanging_node_is_switched_off_although_a_job_waits_for_it() -> None:
    bench = stopping()
    bench.happen(ev.NodeDisconnected("r1", "it does not answer"))
    bench.submit(job(1, request(4)))
    assert "SwitchWithdrawn r1" not in bench.step()


def test_a_job_that_comes_before_anybody_was_asked_keeps_the_node_on() -> None:
    bench = stopping()
    bench.submit(job(1, request(4)))
    assert bench.step() == ["SwitchWithdrawn r1"]
    assert bench.phase("r1") is Phase.ON
    assert bench.place()


def test_a_job_that_comes_later_waits_for_the_shutdown_and_a_boot() -> None:
    bench = stopping()
    bench.asked("r1", "soft_off")
    bench.submit(job(1, request(4)))
    assert bench.step() == []
    assert bench.place() == []
    bench.went_off("r1")
    assert bench.step() == ["SwitchOn r1"]


def test_a_node_that_restarts_instead_of_going_off_is_on() -> None:
    bench = stopping()
    bench.asked("r1", "soft_off")
    bench.happen(ev.NodeDisconnected("r1", "connection closed"))
    bench.connect("r1")
    assert bench.phase("r1") is Phase.ON
    assert bench.switches() == []


def test_a_connection_that_comes_back_in_a_shutdown_proves_nothing() -> None:
    bench = stopping()
    bench.asked("r1", "soft_off")
    boot = bench.state.nodes["r1"].boot_id
    inventory = bench.state.nodes["r1"].inventory
    assert inventory is not None
    bench.happen(ev.NodeDisconnected("r1", "cut"), ev.NodeConnected("r1", boot, inventory, ()))
    assert bench.phase("r1") is Phase.STOPPING
    assert bench.switches() == ["SwitchOff:r1"]


def test_operators_wishes() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.submit(job(1, request(4)))
    bench.run(1)
    bench.happen(pev.PowerRequested("r1", OperatorRequest.OFF, "ann"))
    bench.submit(job(2, request(1)))
    assert bench.step() == [], "its job is left to end, and it takes no other"
    assert bench.state.jobs[2].state is JobState.QUEUED
    bench.finish(1)
    assert bench.step() == ["SwitchOff r1"]
    bench.asked("r1", "soft_off")
    bench.went_off("r1")
    assert bench.power("r1").request is OperatorRequest.NONE
    assert bench.step() == ["SwitchOn r1"], "off is not a hold: the queue may want it again"


def test_who_wants_it_on_before_anybody_was_asked_has_it_stay_on() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.happen(pev.PowerRequested("r1", OperatorRequest.OFF, "ann"))
    assert bench.step() == ["SwitchOff r1"]
    bench.happen(pev.PowerRequested("r1", OperatorRequest.ON, "bob"))
    assert bench.step() == ["SwitchWithdrawn r1"]
    assert (bench.phase("r1"), bench.power("r1").request) == (Phase.ON, OperatorRequest.NONE)
    bench.happen(pev.PowerRequested("r1", OperatorRequest.OFF, "ann"))
    bench.step()
    bench.asked("r1", "soft_off")
    bench.happen(pev.PowerRequested("r1", OperatorRequest.ON, "bob"))
    assert bench.step() == [], "it is going down already"
    bench.went_off("r1")
    assert bench.step() == ["SwitchOn r1"]


def test_what_was_found_on_and_does_not_answer_goes_off_for_an_operator() -> None:
    bench = PowerBench({"r1": 8})
    bench.happen(pev.PowerSeen("r1", True, "the BMC says On"), ev.NodeDisconnected("r1", "no answer"))
    assert bench.step() == [], "somebody may be installing it"
    bench.happen(pev.PowerRequested("r1", OperatorRequest.OFF, "ann"))
    assert bench.step() == ["SwitchOff r1"]


def test_off_by_force_queues_the_jobs_again_and_cycle_comes_back() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.submit(job(1, request(4)))
    key = bench.run(1)
    bench.happen(pev.PowerRequested("r1", OperatorRequest.CYCLE, "ann", force=True))
    assert bench.state.attempts[key].stop is not None
    bench.happen(ev.StopSent("r1", key), ev.Reported("r1", report(key, "ended", outcome="cancelled")))
    bench.happen(ev.Collected(key), ev.Removed("r1", key))
    assert bench.state.jobs[1].state is JobState.QUEUED
    assert bench.step() == ["SwitchOff r1"]
    bench.asked("r1", "soft_off")
    bench.went_off("r1")
    assert bench.step() == ["SwitchOn r1"]
    bench.connect("r1")
    assert bench.power("r1").request is OperatorRequest.NONE


def test_a_held_node_is_left_alone() -> None:
    bench = PowerBench({"r1": 8})
    bench.happen(pev.PowerHeld("r1", bench.now + 500.0, "ann", "new disk"))
    bench.submit(job(1, request(4)))
    assert bench.step() == []
    assert "held" in why_node(bench.state, bench.state.nodes["r1"], bench.now)
    wake = bench.plan().wake_s
    assert wake is not None
    bench.now = wake
    assert bench.step() == ["SwitchOn r1"]


def test_a_node_without_a_power_block_is_always_on() -> None:
    bench = PowerBench({"r1": 8})
    bench.happen(pev.PowerConfigured("r1", None))
    assert "r1" not in bench.state.power
    bench.connect("r1")
    bench.submit(job(1, request(4)))
    assert [placed.node for placed in bench.place()] == ["r1"]


def test_the_last_word_of_a_hold_and_a_wish_counts() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.happen(pev.PowerRequested("r1", OperatorRequest.OFF, "ann"))
    bench.happen(pev.PowerHeld("r1", None, "bob"))
    assert bench.step() == [], "bob wants it left as it is"
    bench.happen(pev.PowerRequested("r1", OperatorRequest.OFF, "ann"))
    assert bench.step() == ["SwitchOff r1"]


def test_a_hold_stops_a_shutdown_that_nobody_was_asked_for_yet() -> None:
    bench = PowerBench({"r1": 8}, on=True, idle_off_s=60.0)
    bench.step()
    bench.now += 61.0
    assert bench.step() == ["SwitchOff r1"]
    bench.happen(pev.PowerHeld("r1", None, "bob"))
    bench.step()
    assert bench.phase("r1") is Phase.ON


@pytest.mark.parametrize(
    ("boot", "up_s", "since_s"),
    [
        ("same", 500.0, -300.0),  # as it says
        ("same", 50.0, 100.0),  # it ran while it was silent, whatever it says
        ("same", None, 100.0),
        ("new", 30.0, 170.0),
        ("new", 150.0, None),  # before the last boot was seen to run: that cannot be
        ("new", None, None),
    ],
)
def test_since_when_a_node_has_been_running(boot: str, up_s: float | None, since_s: float | None) -> None:
    """It was silent from 100 s on, and answers at 200 s."""
    state = State()
    node = Node(name="r1", boot_id="boot-1", connected=False, connection_since_s=100.0)
    state.put_node(node)
    state.put_power(PowerRecord(node="r1"))
    note_boot(state, node, up_s, 200.0, is_new=boot == "new")
    assert state.power["r1"].up_since_s == since_s
