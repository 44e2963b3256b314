"""So many servers on, and no others touched."""

from racksack_controller.core.power import events as pev
from racksack_controller.core.power.scale import scaled
from racksack_controller.core.power_records import OperatorRequest, Phase
from tests.core.power_bench import PowerBench


def scale(bench: PowerBench, count: int | None, until_s: float | None = None) -> list[str]:
    events, chosen = scaled(bench.state, count, until_s, "ann")
    bench.happen(*events, after_s=0.0)
    return chosen


def held(bench: PowerBench) -> list[str]:
    return [name for name in sorted(bench.state.power) if bench.power(name).held(bench.now)]


def test_what_is_on_comes_first_and_what_is_off_is_switched_on() -> None:
    bench = PowerBench({"r1": 8, "r2": 8})
    bench.add("r3", 8, on=True)
    bench.add("r4", 8, boot_s=30.0)
    assert scale(bench, 2) == ["r3", "r4"]
    assert bench.step() == ["SwitchOn r4"]
    assert held(bench) == ["r3", "r4"]
    bench.connect("r4")
    bench.now += 100_000.0
    assert bench.step() == [], "what is held stays on, however idle"
    assert bench.phase("r4") is Phase.ON


def test_another_number_lets_go_of_what_is_too_much() -> None:
    bench = PowerBench({"r1": 8, "r2": 8, "r3": 8}, on=True, idle_off_s=60.0)
    bench.happen(pev.PowerHeld("r3", None, "bob", "the disk is being copied"))
    assert scale(bench, 2) == ["r1", "r2"]
    assert held(bench) == ["r1", "r2", "r3"]
    assert scale(bench, 1) == ["r1"]
    assert held(bench) == ["r1", "r3"]
    assert scale(bench, None) == []
    assert held(bench) == ["r3"], "somebody else's hold stays"


def test_the_hold_ends_by_itself() -> None:
    bench = PowerBench({"r1": 8}, on=True, idle_off_s=60.0)
    bench.step()
    scale(bench, 1, bench.now + 600.0)
    bench.now += 599.0
    assert bench.step() == []
    bench.now += 100.0
    assert bench.step() == ["SwitchOff r1"]


def test_drained_and_set_aside_servers_do_not_count() -> None:
    from racksack_controller.core import events as ev

    bench = PowerBench({"r1": 8, "r2": 8}, on=True)
    bench.add("r3", 8, can_switch_on=False)
    bench.happen(ev.DrainRequested("r1", "broken fan", False))
    assert scale(bench, 3) == ["r2"], "fewer than asked for, where there are no more"


def test_a_wish_for_off_is_overruled() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.happen(pev.PowerRequested("r1", OperatorRequest.OFF, "bob"))
    scale(bench, 1)
    assert bench.power("r1").request is not OperatorRequest.OFF
