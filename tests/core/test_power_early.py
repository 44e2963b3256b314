"""A job that is to begin at a certain time finds its node up by then."""

from __future__ import annotations

from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.power_records import Phase
from tests.core.builders import job, request
from tests.core.power_bench import BOOT_S, PowerBench

HOUR_S = 3600.0


def at(bench: PowerBench, number: int, cpus: int, after_s: float, **more: object) -> None:
    bench.submit(job(number, request(cpus, 1), begin_at_s=bench.now + after_s, **more))


def wake_s(bench: PowerBench) -> float:
    wake = bench.plan().wake_s
    assert wake is not None
    return wake


def run_until(bench: PowerBench, end_s: float) -> list[tuple[float, str]]:
    """Follow the wakes as the loop does; what was decided, and when."""
    told = []
    for _ in range(100):
        told += [(bench.now, word) for word in bench.step()]
        wake = bench.plan().wake_s
        if wake is None or wake > end_s:
            return told
        bench.now = wake
    raise AssertionError(f"it never rests: {told}")


def test_the_boot_begins_its_length_before_the_time() -> None:
    bench = PowerBench({"r1": 8})
    began_s = bench.now
    at(bench, 1, 4, HOUR_S)
    begin_s = bench.state.jobs[1].spec.begin_at_s
    assert begin_s is not None
    assert run_until(bench, begin_s - 1) == [(begin_s - BOOT_S, "SwitchOn r1")]
    assert begin_s - BOOT_S > began_s
    bench.connect("r1")
    bench.now = begin_s
    bench.step()
    assert bench.state.jobs[1].attempt_key is not None


def test_a_node_that_is_up_early_does_not_go_off_again() -> None:
    bench = PowerBench({"r1": 8}, on=True, idle_off_s=5.0)
    at(bench, 1, 4, BOOT_S)
    bench.step()
    bench.now += BOOT_S / 2
    assert bench.step() == []
    assert bench.phase("r1") is Phase.ON


def test_long_before_its_time_a_job_keeps_nothing_on() -> None:
    bench = PowerBench({"r1": 8}, on=True, idle_off_s=5.0)
    at(bench, 1, 4, HOUR_S)
    bench.step()
    bench.now += 5.0
    assert bench.step() == ["SwitchOff r1"]
    bench.went_off("r1")
    assert wake_s(bench) < bench.now + HOUR_S


def test_small_jobs_share_one_node_and_room_that_will_be_there_is_used() -> None:
    bench = PowerBench({"r1": 8}, on=True)
    bench.add("r2", 8)
    bench.add("r3", 8)
    bench.submit(job(1, request(8), time_limit_s=BOOT_S / 2), job(2, request(2), time_limit_s=10.0))
    bench.run(1)
    for number in (3, 4):
        at(bench, number, 8, BOOT_S)  # r1 is free again by then, and r2 is needed
    for number in (5, 6):
        at(bench, number, 4, BOOT_S)
    decided = bench.step()
    assert decided == ["SwitchOn r2", "SwitchOn r3"]


def test_who_may_not_wake_does_not_and_nobody_wakes_what_is_too_small() -> None:
    bench = PowerBench({"r1": 8})
    at(bench, 1, 4, 10.0, no_wake=True)
    at(bench, 2, 16, 10.0)
    assert bench.step() == []


def test_boots_are_staggered() -> None:
    bench = PowerBench({"r1": 8}, policy=PowerPolicy(boot_stagger_s=5.0))
    bench.add("r2", 8)
    for number in (1, 2):
        at(bench, number, 8, BOOT_S)
    assert bench.step() == ["SwitchOn r1"]
    assert bench.step() == []
    assert wake_s(bench) == bench.now + 5.0
    bench.now += 5.0
    assert bench.step() == ["SwitchOn r2"]


def test_many_times_are_looked_at_only_as_far_as_need_be() -> None:
    bench = PowerBench({"r1": 8})
    for number in range(1, 200):
        at(bench, number, 1, HOUR_S * number)
    jobs, after_s = bench.state.queue.begin_by(bench.now + 3.5 * HOUR_S)
    assert [one.id for one in jobs] == sorted(one.id for one in jobs)
    assert len(jobs) == 3
    assert after_s is not None
    assert after_s > bench.now + 3.5 * HOUR_S
