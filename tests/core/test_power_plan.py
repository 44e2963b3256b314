"""Whom the queue has switched on, and who is switched off when."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.power import events as pev
from racksack_controller.core.power.off import break_even_s, idle_off_s
from racksack_controller.core.power_policy import PowerPolicy, Window
from racksack_controller.core.power_records import Measured, Phase, PowerRecord
from racksack_controller.core.records import Node
from racksack_controller.core.why import why_job, why_node
from tests.core.builders import job, report, request
from tests.core.power_bench import BOOT_S, PowerBench, traits

HOUR_S = 3600.0


def test_forty_jobs_boot_as_many_servers_as_an_exact_packing_needs() -> None:
    bench = PowerBench({f"r{number}": 16 for number in range(1, 9)})
    sizes = [8, 7, 1, 2, 6, 3, 5, 4] * 5  # 180 CPUs: 11.25 servers of 16, if there were as many
    bench.submit(*(job(number, request(size, 1)) for number, size in enumerate(sizes[:16], start=1)))
    assert len(bench.step()) == 5, "72 CPUs are five servers of 16"
    assert bench.step() == [], "those that boot are counted"


def test_one_large_server_rather_than_four_small_ones() -> None:
    bench = PowerBench({f"s{number}": 16 for number in range(1, 5)}, watts_max=200.0)
    bench.add("big", 64, watts_max=500.0)
    bench.submit(*(job(number, request(4, 1)) for number in range(1, 17)))
    assert bench.step() == ["SwitchOn big"]


def test_of_equal_servers_the_one_that_draws_less() -> None:
    bench = PowerBench({"hungry": 16}, watts_max=400.0)
    bench.add("lean", 16, watts_max=150.0)
    bench.submit(job(1, request(8, 1)))
    assert bench.step() == ["SwitchOn lean"]


def test_of_equal_servers_the_one_that_boots_faster() -> None:
    bench = PowerBench({"slow": 16}, boot_s=400.0)
    bench.add("fast", 16, boot_s=60.0)
    bench.submit(job(1, request(8, 1)))
    assert bench.step() == ["SwitchOn fast"]


def test_nobody_boots_for_what_a_job_about_to_end_makes_room_for() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.add("r2", 8)
    bench.submit(job(1, request(8), time_limit_s=60.0))
    bench.run(1)
    bench.submit(job(2, request(8), time_limit_s=60.0))
    assert bench.step() == [], "job 1 ends before r2 could have booted"
    assert "r1 is short of CPU" in why_job(bench.reading(), bench.state.jobs[2])
    assert "r2 stays off for now" in why_job(bench.reading(), bench.state.jobs[2])
    bench.submit(job(3, request(8), time_limit_s=10 * HOUR_S), job(4, request(8), time_limit_s=10 * HOUR_S))
    assert bench.step() == ["SwitchOn r2"], "one of them would wait for hours"


def test_an_end_that_does_not_come_is_looked_at_again() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.add("r2", 8)
    bench.submit(job(1, request(8), time_limit_s=60.0))
    bench.run(1)
    bench.submit(job(2, request(8), time_limit_s=HOUR_S))
    assert bench.step() == []
    wake = bench.plan().wake_s
    assert wake is not None
    assert wake < bench.now + 70.0


def test_boots_are_staggered() -> None:
    bench = PowerBench({f"r{number}": 8 for number in range(1, 4)}, policy=PowerPolicy(boot_stagger_s=5.0))
    bench.submit(*(job(number, request(8)) for number in range(1, 4)))
    began = []
    for _ in range(3):
        assert len(bench.step()) == 1
        began.append(bench.now)
        wake = bench.plan().wake_s
        bench.now = wake if wake is not None else bench.now
    assert [later - earlier for earlier, later in itertools.pairwise(began)] == [5.0, 5.0]


def test_labels_and_names_are_respected() -> None:
    bench = PowerBench({"r1": 8, "r2": 8})
    bench.add("r3", 8, labels=("ssd",))
    bench.submit(job(1, request(1), labels=("ssd",)), job(2, request(1), nodes=("r2",)))
    assert sorted(bench.step()) == ["SwitchOn r2", "SwitchOn r3"]


def test_names_that_are_prefixes_of_others_are_not_mixed_up() -> None:
    bench = PowerBench({"node1": 8, "node10": 8, "node": 8})
    bench.submit(job(1, request(1), nodes=("node10",)))
    assert bench.step() == ["SwitchOn node10"]
    assert bench.phase("node1") is Phase.OFF
    assert bench.phase("node") is Phase.OFF


def test_a_gang_wakes_all_its_nodes_or_none() -> None:
    bench = PowerBench({f"r{number}": 8 for number in range(1, 4)})
    bench.submit(job(1, request(8), gang=4))
    assert bench.step() == [], "four nodes are not there"
    bench.submit(job(2, request(8), gang=3))
    assert len(bench.step()) == 3


def test_a_job_marked_no_wake_waits_until_a_node_is_on_anyway() -> None:
    bench = PowerBench({"r1": 8})
    bench.submit(job(1, request(1), no_wake=True))
    assert bench.step() == []
    assert why_job(bench.reading(), bench.state.jobs[1]) == "no_wake: waits until a node is on for another reason"
    bench.submit(job(2, request(1)))
    assert bench.step() == ["SwitchOn r1"]
    bench.connect("r1")
    assert {placed.job for placed in bench.place()} == {1, 2}


NIGHT = PowerPolicy(boot_stagger_s=0.0, quiet=(Window(22 * 3600, 7 * 3600),), quiet_priority=0, zone=UTC)


def test_jobs_that_may_not_wake_a_node_hide_none_that_may() -> None:
    bench = PowerBench({"r1": 8})
    bench.submit(*(job(number, request(8, 1), no_wake=True) for number in range(1, 700)))
    bench.submit(job(700, request(8, 1)))
    assert bench.step() == ["SwitchOn r1"]


def test_jobs_of_low_priority_wake_nodes_in_quiet_hours_only() -> None:
    bench = PowerBench({"r1": 8}, policy=NIGHT)
    bench.now = datetime(2026, 3, 1, 18, 0, tzinfo=UTC).timestamp()
    bench.submit(job(1, request(1)))
    assert bench.step() == []
    said = why_job(bench.reading(), bench.state.jobs[1])
    assert said == "r1 is off and may be switched on for it at 22:00: quiet hours"
    wake = bench.plan().wake_s
    assert wake is not None
    assert datetime.fromtimestamp(wake, UTC).hour == 22
    bench.now = wake
    assert bench.step() == ["SwitchOn r1"]


def test_urgent_jobs_do_not_wait_for_quiet_hours() -> None:
    bench = PowerBench({"r1": 8}, policy=NIGHT)
    bench.now = datetime(2026, 3, 1, 18, 0, tzinfo=UTC).timestamp()
    bench.submit(job(1, request(1), priority=1))
    assert bench.step() == ["SwitchOn r1"]


def test_a_node_that_nobody_has_seen_is_switched_on_to_see_what_it_has() -> None:
    bench = PowerBench({"r1": 8})
    bench.happen(ev.NodeConfigured(Node(name="new")), pev.PowerConfigured("new", traits()))
    bench.happen(pev.PowerSeen("new", False, "Off"))
    bench.submit(job(1, request(4)))
    assert bench.step() == ["SwitchOn r1"], "not needed yet"
    bench.submit(job(2, request(64)))
    assert bench.step() == ["SwitchOn new"]


def test_so_many_nodes_always_stay_on() -> None:
    bench = PowerBench(
        {"hungry": 8}, policy=PowerPolicy(keep_on=1, boot_stagger_s=0.0), watts_idle=200.0, watts_max=300.0
    )
    bench.add("lean", 8, watts_idle=50.0, watts_max=90.0)
    assert bench.step() == ["SwitchOn lean"]
    bench.connect("lean")
    bench.step()
    bench.now += 10 * HOUR_S
    assert bench.step() == []


def test_the_break_even_follows_from_what_was_measured() -> None:
    power = PowerRecord(node="r1")
    assert break_even_s(power, traits()) == pytest.approx((100.0 * 200.0 + 10.0 * 100.0) / 100.0)
    slow = replace(power, boots=Measured().add(400.0))
    assert break_even_s(slow, traits()) == pytest.approx((400.0 * 200.0 + 10.0 * 100.0) / 100.0)
    batsim = traits(watts_idle=95.0, watts_max=95.0, watts_off=9.75, boot_j=19030.0, off_j=620.0)
    assert break_even_s(power, batsim) == pytest.approx(230.5, abs=0.1)
    assert idle_off_s(replace(power, gap_s=HOUR_S), traits()) == pytest.approx(105.0), "a long gap is expected"
    assert idle_off_s(replace(power, gap_s=60.0), traits()) == pytest.approx(210.0)
    assert idle_off_s(power, traits(idle_off_s=600.0)) == 600.0


def idle(**changes: object) -> PowerBench:
    bench = PowerBench({"r1": 8}, on=True, **{"idle_off_s": 60.0, **changes})
    bench.step()
    return bench


def test_an_idle_node_goes_off_in_time() -> None:
    bench = idle()
    began = bench.now
    assert bench.plan().wake_s == began + 60.0
    assert "to be switched off in" in why_node(bench.state, bench.state.nodes["r1"], bench.now)
    bench.now += 59.0
    assert bench.step() == []
    bench.now += 1.0
    assert bench.step() == ["SwitchOff r1"]
    assert "idle for" in why_node(bench.state, bench.state.nodes["r1"], bench.now)


def test_what_keeps_an_idle_node_on() -> None:
    bench = idle()
    bench.happen(pev.LoginsSeen("r1", 1))
    bench.now += HOUR_S
    assert bench.step() == []
    assert "somebody is logged in" in why_node(bench.state, bench.state.nodes["r1"], bench.now)
    bench.happen(pev.LoginsSeen("r1", 0), pev.PowerHeld("r1", None, "ann"))
    assert bench.step() == []
    bench.happen(pev.PowerReleased("r1", "ann"), ev.DrainRequested("r1", "new fan"))
    assert bench.step() == []
    bench.happen(ev.ResumeRequested("r1"))
    assert bench.step() == ["SwitchOff r1"]


def test_a_drained_node_that_is_to_be_off_then_goes_off_when_its_work_is_done() -> None:
    bench = idle()
    bench.submit(job(1, request(4)))
    bench.run(1)
    bench.happen(ev.DrainRequested("r1", "moving house", then_off=True))
    assert bench.step() == []
    bench.finish(1)
    assert bench.step() == ["SwitchOff r1"]
    bench.asked("r1", "soft_off")
    bench.went_off("r1")
    bench.submit(job(2, request(4)))
    assert bench.step() == [], "drained: it stays off"


def test_never_off_before_results_are_here_and_nothing_is_left() -> None:
    bench = idle()
    bench.submit(job(1, request(4)))
    key = bench.run(1)
    for event in (ev.Reported("r1", report(key, "ended")), ev.Collected(key)):
        bench.happen(event)
        bench.now += HOUR_S
        assert bench.step() == []
    bench.happen(ev.Removed("r1", key))
    assert bench.step() == []
    bench.now += 60.0
    assert bench.step() == ["SwitchOff r1"]


def test_minimum_time_on_and_never() -> None:
    bench = idle(min_on_s=600.0)
    bench.now += 300.0
    assert bench.step() == []
    bench.now += 300.0
    assert bench.step() == ["SwitchOff r1"]
    never = idle(idle_off_s=float("inf"))
    never.now += 1e7
    assert never.step() == []


def test_an_idle_node_stays_on_for_a_gang_that_waits_for_others() -> None:
    bench = idle()
    bench.add("r2", 8, on=True)
    bench.submit(job(1, request(8), nodes=("r2",)))
    bench.run(1)
    bench.submit(job(2, request(8), gang=2))
    bench.step()
    bench.now += HOUR_S
    assert bench.step() == []


def test_jobs_go_to_the_node_that_has_been_on_longest() -> None:
    bench = PowerBench({"r1": 8, "r2": 8, "r3": 8})
    for name in ("r2", "r3", "r1"):
        bench.happen(pev.SwitchOnDecided(name, "test"))
        bench.connect(name)
    bench.submit(*(job(number, request(4)) for number in range(1, 6)))
    assert [placed.node for placed in bench.place()] == ["r2", "r2", "r3", "r3", "r1"]


def test_why_a_booting_node_keeps_a_job_waiting() -> None:
    bench = PowerBench({"r2": 8}, boot_s=240.0)
    bench.submit(job(1, request(4)))
    bench.step()
    bench.now += 130.0
    assert why_job(bench.reading(), bench.state.jobs[1]) == "r2 is booting, 2:10 of about 4:00"
    assert why_node(bench.state, bench.state.nodes["r2"], bench.now).startswith("is booting, 2:10 of about 4:00: job 1")


def test_planning_twice_decides_the_same() -> None:
    bench = PowerBench({f"r{number}": 8 for number in range(1, 6)})
    bench.submit(*(job(number, request(3), time_limit_s=100.0 * number) for number in range(1, 9)))
    assert bench.plan() == bench.plan()


def test_a_large_node_is_left_to_those_who_need_it_while_a_small_one_boots() -> None:
    bench = PowerBench({"big": 32}, on=True)
    bench.add("small", 8)
    bench.submit(job(1, request(32), time_limit_s=HOUR_S))
    bench.run(1)
    bench.finish(1)
    bench.submit(job(2, request(4), time_limit_s=HOUR_S), job(3, request(4), time_limit_s=30.0))
    assert [placed.job for placed in bench.place()] == [3], "what ends soon is in nobody's way"
    assert bench.step() == ["SwitchOn small"]
    bench.submit(job(4, request(28), time_limit_s=HOUR_S))
    assert [(placed.job, placed.node) for placed in bench.place()] == [(4, "big")], "nobody reserves for job 2"
    bench.connect("small", after_s=BOOT_S)
    assert [(placed.job, placed.node) for placed in bench.place()] == [(2, "small")]


def test_where_the_small_node_does_not_come_up_the_large_one_is_taken() -> None:
    bench = PowerBench({"big": 32}, on=True)
    bench.add("small", 8)
    bench.submit(job(1, request(32), time_limit_s=HOUR_S))
    bench.run(1)
    bench.finish(1)
    bench.submit(job(2, request(4), time_limit_s=HOUR_S))
    assert bench.step() == ["SwitchOn small"]
    bench.happen(pev.PowerSwitched("small", True, False, "it did not come up"))
    assert [(placed.job, placed.node) for placed in bench.place()] == [(2, "big")]


def test_small_jobs_behind_a_long_queue_of_large_ones_wake_their_own_nodes() -> None:
    bench = PowerBench({"big": 32}, on=True)
    bench.add("small", 8)
    bench.submit(*(job(number, request(32), time_limit_s=HOUR_S) for number in range(1, 601)))
    bench.run(1)
    bench.submit(job(601, request(4), time_limit_s=HOUR_S))
    assert bench.step() == ["SwitchOn small"]
    bench.connect("small", after_s=BOOT_S)
    assert [(placed.job, placed.node) for placed in bench.place()] == [(601, "small")]


@pytest.mark.parametrize("kind", [{"labels": ("none has it",)}, {"gang": 9}, {"nodes": ("r1",), "cpus": 99}])
def test_jobs_that_can_never_run_hide_nobody_who_needs_a_boot(kind: dict[str, Any]) -> None:
    bench = PowerBench({"r1": 8, "r2": 8})
    cpus = kind.pop("cpus", 1)
    bench.submit(*(job(number, request(cpus), priority=9, name=f"n{number}", **kind) for number in range(1, 520)))
    bench.submit(job(900, request(8)))
    assert bench.step() in (["SwitchOn r1"], ["SwitchOn r2"])
