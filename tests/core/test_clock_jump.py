"""The wall clock is set: delays stay as long as they are, nobody is taken for silent, and what people named stays."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.apply import lose_unreachable
from racksack_controller.core.power_records import Phase, PowerRecord
from racksack_controller.core.records import Orphan
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report

HOUR = 3600.0


def jump(bench: Bench, by_s: float) -> None:
    bench.now += by_s
    bench.happen(ev.ClockJumped(by_s), after_s=0.0)


def failed_once(**spec: object) -> Bench:
    bench = Bench(node())
    bench.submit(job(1, retries=1, retry_on=("exit",), **spec))
    key = bench.run(1)
    bench.happen(ev.Reported("n1", report(key, "ended", outcome="failed", exit_code=1)), ev.Collected(key))
    assert bench.state.jobs[1].state is JobState.QUEUED
    return bench


@pytest.mark.parametrize("by_s", [-HOUR, HOUR, 20 * 365 * 24 * HOUR])
def test_a_retry_waits_as_long_as_it_did(by_s: float) -> None:
    bench = failed_once(retry_delay_s=300.0)
    left_s = bench.state.jobs[1].not_before_s - bench.now
    jump(bench, by_s)
    assert bench.state.jobs[1].not_before_s - bench.now == pytest.approx(left_s)


@pytest.mark.parametrize("by_s", [-HOUR, HOUR])
def test_what_rests_rests_no_longer_and_what_is_silent_is_no_longer_silent(by_s: float) -> None:
    bench = Bench(node())
    bench.submit(job(1))
    key = bench.run(1)
    bench.happen(ev.NodeDisconnected("n1", "timed out"), after_s=50.0)
    bench.state.put_node(replace(bench.state.nodes["n1"], cool_until_s=bench.now + 10.0))
    bench.state.put_attempt(replace(bench.state.attempts[key], retry_at_s=bench.now + 5.0))
    bench.state.put_orphan("n1", "7.1", Orphan(running=True, retry_at_s=bench.now + 5.0))
    jump(bench, by_s)
    found = bench.state.nodes["n1"]
    assert found.cool_until_s == pytest.approx(bench.now + 10.0)
    assert bench.state.attempts[key].retry_at_s == pytest.approx(bench.now + 5.0)
    assert bench.state.orphans["n1", "7.1"].retry_at_s == pytest.approx(bench.now + 5.0)
    lose_unreachable(bench.state, bench.now + 100.0, 600.0)
    assert bench.state.jobs[1].state is JobState.RUNNING
    lose_unreachable(bench.state, bench.now + 700.0, 600.0)
    assert bench.state.jobs[1].state is JobState.QUEUED


def test_the_power_of_a_node_is_switched_when_it_would_have_been() -> None:
    bench = Bench(node())
    idle = PowerRecord(
        node="n1", phase=Phase.ON, since_s=bench.now, idle_since_s=bench.now - 60.0, retry_at_s=bench.now + 9
    )
    bench.state.put_power(idle)
    jump(bench, -HOUR)
    found = bench.state.power["n1"]
    assert bench.now - found.idle_since_s == pytest.approx(60.0)  # type: ignore[operator]
    assert found.retry_at_s - bench.now == pytest.approx(9.0)


def test_what_a_person_named_stays() -> None:
    bench = Bench(node())
    bench.submit(job(1, begin_at_s=bench.now + HOUR))
    begin_at_s = bench.state.jobs[1].spec.begin_at_s
    jump(bench, 100.0)
    assert bench.state.jobs[1].spec.begin_at_s == begin_at_s


def test_a_clock_that_was_wrong_before_the_start_delays_nothing() -> None:
    bench = failed_once()
    bench.state.put_job(replace(bench.state.jobs[1], not_before_s=bench.now + 24 * HOUR))
    bench.state.put_node(replace(bench.state.nodes["n1"], cool_until_s=bench.now + 24 * HOUR))
    bench.happen(ev.ClockJumped(), after_s=0.0)
    assert bench.state.jobs[1].not_before_s == bench.now
    assert bench.state.nodes["n1"].cool_until_s == bench.now


def test_a_delay_that_a_job_asked_for_is_left_alone_at_a_start() -> None:
    bench = failed_once(retry_delay_s=24 * HOUR)
    not_before_s = bench.state.jobs[1].not_before_s
    bench.happen(ev.ClockJumped(), after_s=0.0)
    assert bench.state.jobs[1].not_before_s == not_before_s
