"""A server that hangs is switched off and, where something waits for it, on again: fenced, bounded, not for a cut."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.apply import lose_unreachable
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.power import events as pev
from racksack_controller.core.power.hung import AGAIN_S, CUT_S, SILENT_S
from racksack_controller.core.power_records import Phase
from racksack_controller.core.records import Drain
from racksack_controller.core.step import Settings, step
from racksack_controller.core.why import why_node
from tests.core.builders import job, request
from tests.core.power_bench import PROMPT, PowerBench

LOST_AFTER_S = 600.0


def rack(nodes: dict[str, int] | None = None, **given: object) -> PowerBench:
    """Servers that are on; the first has a job for good, and something waits for it."""
    bench = PowerBench(nodes or {"r1": 8}, on=True, **{"hard_off": True, **given})
    bench.submit(job(1, request(8), nodes=("r1",)))
    bench.run(1)
    return bench


def hang(bench: PowerBench, *names: str, says: bool = True) -> None:
    """It does not answer any more, and its BMC says that it is on."""
    bench.happen(*(ev.NodeDisconnected(name, "timed out") for name in names), after_s=0.0)
    bench.now += 1.0
    if says:
        bench.happen(*(pev.PowerSeen(name, True, "the BMC says On") for name in names), after_s=0.0)


def let_pass(bench: PowerBench, seconds: float) -> list[str]:
    """Steps of a minute; what was decided about power."""
    decided: list[str] = []
    end_s = bench.now + seconds
    while bench.now < end_s:
        bench.now = min(end_s, bench.now + 60.0)
        before = {name: bench.phase(name) for name in bench.state.power}
        settings = Settings(power=PROMPT, lost_after_s=LOST_AFTER_S)
        bench.memory = step(bench.state, [], bench.now, settings, bench.memory or PassMemory()).memory
        decided += [f"{bench.phase(name)} {name}" for name, was in before.items() if bench.phase(name) is not was]
    return decided


def test_a_hung_server_is_cycled_for_the_job_that_was_given_up() -> None:
    bench = rack()
    hang(bench, "r1")
    assert let_pass(bench, LOST_AFTER_S - 61.0) == [], "what runs there is not given up yet"
    assert let_pass(bench, 180.0) == ["stopping r1"]
    assert bench.state.on_node("r1") == [], "its attempt is fenced first"
    assert "it hangs: it is on but has not answered for" in why_node(bench.state, bench.state.nodes["r1"], bench.now)
    bench.asked("r1", "hard_off")
    bench.happen(pev.PowerSwitched("r1", False, True, "the BMC says Off"))
    assert let_pass(bench, 60.0) == ["booting r1"], "the job waits for it"
    bench.connect("r1")
    bench.place()
    assert bench.state.jobs[1].state == "staging"
    assert bench.state.jobs[1].attempt == 2


def test_one_that_nothing_needs_goes_off_and_stays_off() -> None:
    bench = PowerBench({"r1": 8, "r2": 8}, on=True, hard_off=True, idle_off_s=1e9)
    hang(bench, "r1")
    assert let_pass(bench, SILENT_S + 60.0) == ["stopping r1"]
    bench.happen(pev.PowerSwitched("r1", False, True, "the BMC says Off"))
    assert let_pass(bench, 3600.0) == []
    assert bench.phase("r1") is Phase.OFF


@pytest.mark.parametrize("why", ["no hard off", "nobody says On", "held", "drained", "BMC said On before the silence"])
def test_what_may_not_be_cut_or_is_not_known_to_be_on_is_left_alone(why: str) -> None:
    bench = rack(hard_off=why != "no hard off")
    if why == "held":
        bench.happen(pev.PowerHeld("r1", None, "ann", "a look inside"))
    if why == "drained":
        bench.state.put_node(replace(bench.state.nodes["r1"], drain=Drain("a look inside", bench.now)))
    if "before" in why:
        bench.happen(pev.PowerSeen("r1", True, "the BMC says On"))
    hang(bench, "r1", says=why not in ("nobody says On", "BMC said On before the silence"))
    assert let_pass(bench, 3 * CUT_S) == []


def test_servers_that_fall_silent_together_are_taken_for_a_cut() -> None:
    bench = rack({"r1": 8, "r2": 8})
    hang(bench, "r1", "r2")
    assert let_pass(bench, CUT_S - 120.0) == []
    assert sorted(let_pass(bench, 300.0)) == ["stopping r1", "stopping r2"], "but not for ever"


def test_one_that_answers_again_in_time_is_let_be() -> None:
    bench = rack()
    hang(bench, "r1")
    let_pass(bench, LOST_AFTER_S - 61.0)
    bench.happen(ev.NodeConnected("r1", "boot1", bench.state.nodes["r1"].inventory, ()), after_s=0.0)  # type: ignore[arg-type]
    assert let_pass(bench, 240.0) == []


def test_one_that_hangs_again_within_a_day_is_set_aside() -> None:
    bench = rack()
    for attempt in (1, 2):
        hang(bench, "r1")
        assert "stopping r1" in let_pass(bench, LOST_AFTER_S + 120.0)
        bench.happen(pev.PowerSwitched("r1", False, True, "the BMC says Off"))
        decided = let_pass(bench, 600.0)
        assert decided == (["booting r1"] if attempt == 1 else [])
        if attempt == 1:
            bench.connect("r1")
            bench.place()
    assert bench.phase("r1") is Phase.SET_ASIDE
    assert "the second time within a day" in why_node(bench.state, bench.state.nodes["r1"], bench.now)
    assert "booting r1" in let_pass(bench, AGAIN_S), "after hours it has another chance"


def test_the_fence_comes_before_the_cut() -> None:
    """Without it the planner would wait: attempts that may still run are never cut by it."""
    bench = rack()
    hang(bench, "r1")
    bench.now += 10 * CUT_S
    assert bench.plan().events == ()
    lose_unreachable(bench.state, bench.now, LOST_AFTER_S)
    assert [one.node for one in bench.plan().events] == ["r1"]
