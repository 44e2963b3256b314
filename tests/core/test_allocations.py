"""When what runs is expected to end, held against the same rule in plain arithmetic, and what hangs on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_controller.core import events as ev
from racksack_controller.core.policy import Policy
from racksack_controller.core.rack.allocations import (
    CORRECTIONS_S,
    ENDING_S,
    OVERDUE_S,
    Allocations,
    NodeAllocation,
    Times,
)
from tests.core.builders import job, report, request
from tests.core.power_bench import PowerBench
from tests.sizes import sized

DEFAULT_LIMIT_S = 7 * 86400.0
NEED = (1, 1, 0, 0, 1)


def expected_end_s(times: Times, now: float, *, predict: bool) -> float:
    """One attempt, one step after the other."""
    if times.limit_s >= 0:
        latest = times.begin_s + times.limit_s
        if now >= latest:  # it is being ended; if it still is after ten minutes, it is like one that outlives the rest
            return now + OVERDUE_S if now < latest + ENDING_S else outlived(latest, now)
    else:
        latest = times.begin_s + DEFAULT_LIMIT_S
    end = latest
    if predict and times.predicted_s >= 0:
        end = min(end, times.begin_s + times.predicted_s)
    end = outlived(end, now)
    return max(min(end, latest) if times.limit_s >= 0 else end, now + OVERDUE_S)


def outlived(end: float, now: float) -> float:
    """An end that has passed is moved by the next of the steps, and after the last of them by doubling it."""
    if end > now:
        return end
    step = float(CORRECTIONS_S[0])
    for longer in [*CORRECTIONS_S.tolist(), *(CORRECTIONS_S[-1] * 2.0**n for n in range(1, 40))]:
        step = longer
        if end + step > now:
            break
    return max(end + step, now + OVERDUE_S)


TIMES = st.builds(
    Times,
    st.floats(0.0, 1e5),
    st.one_of(st.just(-1.0), st.floats(0.0, 1e6)),
    st.one_of(st.just(-1.0), st.floats(0.0, 1e6)),
)


@settings(deadline=None, max_examples=sized(100, 1000))
@given(st.lists(TIMES, min_size=1, max_size=6), st.floats(0.0, 3e7), st.booleans())
def test_ends_are_those_of_plain_arithmetic(times: list[Times], now: float, predict: bool) -> None:
    rack = Allocations()
    rack.add_row()
    for number, one in enumerate(times):
        rack.add(f"{number}.1", [NodeAllocation(0, NEED, (), 1000)], one)
    places = np.concatenate([np.array(rack.of[f"{number}.1"]) for number in range(len(times))])
    found = rack.ends(places, now, default_limit_s=DEFAULT_LIMIT_S, predict=predict)
    assert found.tolist() == pytest.approx([expected_end_s(one, now, predict=predict) for one in times])
    _, until = rack.raw_ends(places, now, default_limit_s=DEFAULT_LIMIT_S, predict=predict)
    assert np.all(until > now), "an answer is good for a while"


@settings(deadline=None, max_examples=sized(100, 1000))
@given(TIMES, st.floats(0.0, 2e6), st.booleans())
def test_an_answer_holds_until_it_says(times: Times, now: float, predict: bool) -> None:
    rack = Allocations()
    rack.add_row()
    places = np.array(rack.add("1.1", [NodeAllocation(0, NEED, (), 1000)], times))
    [ends], [until] = rack.raw_ends(places, now, default_limit_s=DEFAULT_LIMIT_S, predict=predict)
    for later in (now, (now + until) / 2, max(now, until - 1e-3)):
        assert rack.raw_ends(places, later, default_limit_s=DEFAULT_LIMIT_S, predict=predict)[0].tolist() == [ends]


@pytest.mark.parametrize("late_s", [60.0, 7200.0, 400_000.0, 3_000_000.0])
@pytest.mark.parametrize("limit_s", [None, 1e9])
def test_a_job_that_outlives_its_prediction_keeps_no_server_off(late_s: float, limit_s: float | None) -> None:
    """However long it runs on: it is never taken to end within a second, so that others need not wait for a boot."""
    bench = PowerBench({"r1": 8, "r2": 8})
    bench.connect("r1")
    bench.submit(job(90, name="job1", owner="ann"))
    bench.place()
    bench.now += 600.0
    ended = report("90.1", "ended", started_at_s=bench.now - 600.0, ended_at_s=bench.now)
    bench.happen(ev.Reported("r1", ended), ev.Collected("90.1"), ev.Removed("r1", "90.1"))
    bench.submit(job(1, request(8), owner="ann", nodes=("r1",), time_limit_s=limit_s))
    bench.place()
    bench.happen(ev.Launched("1.1"), ev.Reported("r1", report("1.1", started_at_s=bench.now)))
    bench.now += 600.0 + late_s
    bench.submit(job(2, request(8), owner="bob", time_limit_s=60.0, submitted_at_s=bench.now))
    assert "SwitchOn r2" in bench.step()


def test_a_prediction_is_believed_while_it_can_hold() -> None:
    """That the test above can fail: one that ends in a moment is worth waiting for."""
    bench = PowerBench({"r1": 8, "r2": 8})
    bench.connect("r1")
    bench.submit(job(1, request(8), nodes=("r1",), time_limit_s=60.0))
    bench.place(Policy())
    bench.happen(ev.Launched("1.1"), ev.Reported("r1", report("1.1", started_at_s=bench.now)))
    bench.now += 58.0
    bench.submit(job(2, request(8), owner="bob", time_limit_s=60.0, submitted_at_s=bench.now))
    assert bench.step() == []
