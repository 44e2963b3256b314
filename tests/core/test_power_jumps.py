"""A jump host that is a node and is switched: on before what lies behind it, off when nothing needs it."""

from __future__ import annotations

from racksack_controller.core import events as ev
from racksack_controller.core.power import events as pev
from racksack_controller.core.power.operator import objection, requests_for
from racksack_controller.core.power_records import OperatorRequest, Phase
from racksack_controller.core.why import why_job, why_node
from racksack_jobspecs.states import JobState
from tests.core.builders import inventory, job, node, report, request
from tests.core.power_bench import PowerBench

IDLE_S = 60.0


def rack(*, on: bool = False) -> PowerBench:
    """`far` is reached through `gate`, which has too little for the jobs of these tests."""
    bench = PowerBench({}, idle_off_s=IDLE_S)
    bench.add("gate", 2, on=on, behind=("far",), idle_off_s=IDLE_S)
    bench.add("far", 8, on=on, through=("gate",), idle_off_s=IDLE_S)
    return bench


def why(bench: PowerBench, name: str) -> str:
    return why_node(bench.state, bench.state.nodes[name], bench.now)


def test_the_jump_host_is_woken_first_and_the_node_when_it_answers() -> None:
    bench = rack()
    bench.submit(job(1, request(8)))
    assert bench.step() == ["SwitchOn gate"]
    assert "far is reached through it: job 1 is waiting" in why(bench, "gate")
    assert bench.step() == [], "it boots"
    assert "far is switched on when gate is" in why_job(bench.reading(), bench.state.jobs[1])
    bench.connect("gate")
    assert bench.step() == ["SwitchOn far"]
    assert bench.step() == []
    bench.connect("far")
    bench.step()
    assert bench.state.jobs[1].attempt_key is not None


def test_jump_hosts_that_follow_each_other_come_on_one_after_the_other() -> None:
    bench = PowerBench({})
    bench.add("a", 1, behind=("b", "c"))
    bench.add("b", 1, through=("a",), behind=("c",))
    bench.add("c", 8, through=("a", "b"))
    bench.submit(job(1, request(8)))
    for name in ("a", "b", "c"):
        assert bench.step() == [f"SwitchOn {name}"]
        assert bench.step() == []
        bench.connect(name)


def test_it_stays_on_while_the_node_is_on_and_goes_off_after_it() -> None:
    bench = rack(on=True)
    bench.submit(job(1, request(8)))
    bench.run(1)
    bench.now += 10 * IDLE_S
    assert bench.step() == []
    assert "far is on and is reached through it" in why(bench, "gate")
    bench.finish(1)
    assert bench.step() == []
    bench.now += IDLE_S
    assert bench.step() == ["SwitchOff far"]
    bench.now += 10 * IDLE_S
    assert bench.step() == [], "the way must last until the node is off"
    bench.went_off("far")
    assert bench.step() == [], "its own idle time begins now"
    bench.now += IDLE_S
    assert bench.step() == ["SwitchOff gate"]


def test_a_job_for_the_node_keeps_it_on_and_calls_it_back() -> None:
    bench = rack()
    bench.connect("gate")
    bench.step()
    bench.now += IDLE_S
    assert bench.step() == ["SwitchOff gate"]
    bench.submit(job(1, request(8)))
    assert bench.step() == ["SwitchWithdrawn gate"]
    assert bench.step() == ["SwitchOn far"]


def test_a_shutdown_that_was_asked_for_is_waited_for() -> None:
    bench = rack()
    bench.connect("gate")
    bench.step()
    bench.now += IDLE_S
    bench.step()
    bench.asked("gate", "soft_off")
    bench.submit(job(1, request(8)))
    assert bench.step() == []
    bench.went_off("gate")
    assert bench.step() == ["SwitchOn gate"]


def test_one_that_may_not_be_woken_keeps_the_node_off_and_says_so() -> None:
    bench = rack()
    bench.happen(pev.PowerHeld("gate", None, "ann", "a new switch"))
    bench.submit(job(1, request(8)))
    assert bench.step() == []
    assert "reached through gate, which may not be switched on now" in why_job(bench.reading(), bench.state.jobs[1])
    bench.happen(pev.PowerReleased("gate", "ann"))
    assert bench.step() == ["SwitchOn gate"]
    bench.happen(pev.PowerSwitched("gate", True, False, "it did not come up"))
    assert bench.step() == [], "it is left alone for a while"
    wake = bench.plan().wake_s
    assert wake is not None
    bench.now = wake
    assert bench.step() == ["SwitchOn gate"], "and tried again by itself"


def test_one_that_lost_its_power_is_woken_for_what_is_on_behind_it() -> None:
    bench = rack(on=True)
    lost = [ev.NodeDisconnected(name, "no answer") for name in ("gate", "far")]
    bench.happen(*lost, pev.PowerSeen("gate", False, "the BMC says Off"))
    assert bench.phase("far") is Phase.ON
    assert bench.step() == ["SwitchOn gate"], "far would burn for ever"
    assert "far is on and is reached through it" in why(bench, "gate")


def ask(bench: PowerBench, name: str, what: OperatorRequest, *, force: bool = False) -> None:
    """As the API does it."""
    assert objection(bench.state, name, what, bench.now, force=force) is None
    bench.happen(*requests_for(bench.state, name, what, "ann", force=force))


def test_an_operators_off_takes_along_what_is_behind_and_waits_for_it() -> None:
    bench = rack(on=True)
    ask(bench, "gate", OperatorRequest.OFF)
    assert "to be switched off when far is off" in why(bench, "gate")
    bench.submit(job(1, request(2), nodes=("far",)))
    assert bench.step() == ["SwitchOff far"]
    bench.went_off("far")
    assert bench.step() == ["SwitchOff gate"], "although a job waits for far"
    bench.went_off("gate")
    assert bench.step() == ["SwitchOn gate"], "off is not a hold"


def test_an_operators_off_of_a_busy_way_needs_force() -> None:
    bench = rack(on=True)
    bench.submit(job(1, request(8)))
    key = bench.run(1)
    refused = objection(bench.state, "gate", OperatorRequest.OFF, bench.now, force=False)
    assert refused is not None
    assert "far, which is reached through gate, is busy with job 1; drain far with --then-off" in refused
    ask(bench, "gate", OperatorRequest.OFF, force=True)
    assert bench.step() == []
    bench.happen(ev.StopSent("far", key), ev.Reported("far", report(key, "ended", outcome="cancelled")))
    bench.happen(ev.Collected(key), ev.Removed("far", key))
    assert bench.state.jobs[1].state is JobState.QUEUED
    assert bench.step() == ["SwitchOff far"]
    bench.went_off("far")
    assert bench.step() == ["SwitchOff gate"]


def test_a_way_that_is_cycled_brings_back_what_was_on_behind_it() -> None:
    bench = rack(on=True)
    ask(bench, "gate", OperatorRequest.CYCLE)
    for name in ("far", "gate"):
        assert bench.step() == [f"SwitchOff {name}"]
        bench.went_off(name)
    for name in ("gate", "far"):
        assert bench.step() == [f"SwitchOn {name}"]
        bench.connect(name)
    assert [bench.power(name).request for name in ("gate", "far")] == [OperatorRequest.NONE, OperatorRequest.NONE]
    ask(bench, "far", OperatorRequest.OFF)
    bench.step()
    bench.went_off("far")
    ask(bench, "gate", OperatorRequest.CYCLE)
    assert bench.step() == ["SwitchOff gate"]
    bench.went_off("gate")
    assert bench.step() == ["SwitchOn gate"]
    bench.connect("gate")
    assert bench.step() == [], "far was off before"


def test_what_speaks_against_an_operators_off() -> None:
    bench = rack(on=True)
    bench.happen(pev.PowerHeld("far", None, "bob"))
    assert "far, which is reached through gate, is held" in (
        objection(bench.state, "gate", OperatorRequest.OFF, bench.now, force=False) or ""
    )
    assert objection(bench.state, "gate", OperatorRequest.OFF, bench.now, force=True) is None
    assert objection(bench.state, "far", OperatorRequest.OFF, bench.now, force=False) is None, "the last word counts"
    bench = rack(on=True)
    bench.happen(pev.LoginsSeen("far", 1))
    assert "logged in on far" in (objection(bench.state, "gate", OperatorRequest.CYCLE, bench.now, force=False) or "")
    bench = PowerBench({})
    bench.add("gate", 2, on=True, behind=("stays",))
    bench.add("stays", 2, on=True, through=("gate",), can_switch_off=False)
    assert "shut it down by hand" in (objection(bench.state, "gate", OperatorRequest.OFF, bench.now, force=True) or "")
    assert objection(bench.state, "gate", OperatorRequest.ON, bench.now, force=False) is None


def test_what_cannot_be_reached_is_not_promised_to_come_on() -> None:
    bench = rack()
    assert objection(bench.state, "far", OperatorRequest.ON, bench.now, force=False) is None
    bench.happen(pev.PowerHeld("gate", None, "ann", "a new switch"))
    assert objection(bench.state, "far", OperatorRequest.ON, bench.now, force=True) == (
        "far is reached through gate, and gate is off and held by ann: a new switch; deal with gate first"
    )
    bench = rack(on=True)
    bench.happen(pev.PowerRequested("gate", OperatorRequest.OFF, "ann"))
    assert "gate is to go off" in (objection(bench.state, "far", OperatorRequest.CYCLE, bench.now, force=False) or "")


def test_a_node_behind_a_way_that_is_off_says_so() -> None:
    bench = rack()
    bench.happen(pev.PowerSeen("far", True, "the BMC says On"), ev.NodeDisconnected("far", "no route"))
    assert bench.phase("far") is Phase.UNKNOWN
    assert why(bench, "far") == "it is not known whether it is on: gate, through which it is reached, is off"


def test_a_wish_for_the_node_wakes_the_way() -> None:
    bench = rack()
    bench.happen(pev.PowerRequested("far", OperatorRequest.ON, "ann"))
    assert bench.step() == ["SwitchOn gate"]
    bench.connect("gate")
    assert bench.step() == ["SwitchOn far"]


def test_one_before_a_node_that_is_always_on_stays_on_and_is_woken_for_its_work() -> None:
    bench = PowerBench({})
    bench.add("gate", 2, behind=("always",), idle_off_s=IDLE_S)
    always = node("always", inventory=inventory(8, 64), connected=False, boot_id="")
    bench.happen(ev.NodeConfigured(always), ev.NodeDisconnected("always", "no way"))
    assert bench.step() == []
    bench.submit(job(1, request(8)))
    assert bench.step() == ["SwitchOn gate"]
    bench.connect("gate")
    bench.now += 10 * IDLE_S
    assert bench.step() == []
    assert "always is on and is reached through it" in why(bench, "gate")


def test_others_are_not_kept_waiting_by_a_way_that_boots() -> None:
    bench = rack()
    bench.add("other", 8)
    bench.submit(job(1, request(8), nodes=("far",)))
    assert bench.step() == ["SwitchOn gate"]
    bench.submit(job(2, request(8), nodes=("other",)))
    assert bench.step() == ["SwitchOn other"]
