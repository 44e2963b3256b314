"""Fair share: whoever used less goes first, from the first minutes on; and nobody waits for ever for that."""

from __future__ import annotations

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.queue.fair_share import level
from racksack_controller.core.queue.turns import BACK_AT, HEAD_START_S, Turns
from racksack_controller.core.step import Settings, step
from racksack_controller.simulate.engine import Outcome, Replay
from racksack_controller.simulate.machines import Layout, Machines
from racksack_controller.simulate.workload import Task
from tests.core.builders import Bench, job, node, report, request

FAIR = Policy(fair_share=True)
HOUR_S = 3600.0
RACK = Machines(4, 8, Layout.POOL)


def play(tasks: list[Task], policy: Policy = FAIR) -> list[Outcome]:
    return Replay(sorted(tasks, key=lambda task: (task.submit_s, task.number)), RACK, policy).run()


def longest_s(outcomes: list[Outcome], user: str = "") -> float:
    found = [one for one in outcomes if user in ("", one.task.user)]
    return max((one.started_s or 0.0) - one.task.submit_s for one in found)


def mean_s(outcomes: list[Outcome], user: str) -> float:
    first_day = [one for one in outcomes if one.task.user == user and one.task.submit_s < 24 * HOUR_S]
    waits = [(one.started_s or 0.0) - one.task.submit_s for one in first_day]
    return sum(waits) / len(waits)


def stream(user: str, first: int, begin_s: float, end_s: float, every_s: float, run_s: float) -> list[Task]:
    """A job for a whole node now and then."""
    times = [begin_s + n * every_s for n in range(int((end_s - begin_s) / every_s))]
    return [Task(first + n, at_s, run_s, run_s, 8, user=user, program=f"{user}{n}") for n, at_s in enumerate(times)]


@pytest.mark.parametrize("minutes", [1, 5, 30])
def test_the_first_minutes_count(minutes: int) -> None:
    """Ann fills the rack; when bob comes a little later, the next place is his and not that of ann's next job."""
    bench = Bench(node())
    bench.submit(*(job(number, request(8), owner="ann", time_limit_s=9999.0) for number in range(1, 20)))
    [placed] = bench.place(FAIR)
    bench.now += 60.0 * minutes
    bench.submit(job(50, request(8), owner="bob", time_limit_s=9999.0, submitted_at_s=bench.now))
    assert bench.place(FAIR) == []
    bench.happen(ev.Reported("n1", report(f"{placed.job}.1", "ended")))
    assert [one.job for one in bench.place(FAIR)] == [50]


def test_uses_are_compared_in_parts_of_themselves() -> None:
    assert level(0.0) == level(1e-7) == 0.0
    for small in (1e-4, 1e-2, 0.3):
        assert level(small) < level(small * 1.1), "a tenth more is more"
        assert abs(level(small) - level(small * 1.005)) <= 1.0, "half a per cent is about the same"
    assert level(0.5) < level(5.0), "one who has a small share counts for more than the whole rack"


@pytest.mark.parametrize("policy", [FAIR, Policy(fair_share=True, backfill=Backfill.CONSERVATIVE)])
def test_a_busy_owner_is_passed_for_hours_but_not_for_ever(policy: Policy) -> None:
    """Others bring as much as the rack can do, day after day. By use alone ann's last job would wait to the end."""
    ann = [Task(n, 0.0, 2 * HOUR_S, 2 * HOUR_S, 8, user="ann", program=f"a{n}") for n in range(1, 41)]
    end_s = 4 * 24 * HOUR_S
    others = [
        task
        for number, user in enumerate(("bob", "carol", "dave"))
        for task in stream(user, 1000 * (number + 1), HOUR_S, end_s, HOUR_S, 1.25 * HOUR_S)
    ]
    fair, plain = play(ann + others, policy), play(ann + others, Policy())
    assert longest_s(fair, "ann") <= 2.0 * longest_s(plain) + HEAD_START_S
    assert longest_s(fair) <= 2.0 * longest_s(plain) + HEAD_START_S
    assert mean_s(fair, "bob") < 0.8 * mean_s(plain, "bob"), "it is fair share all the same"


def test_light_users_pass_one_who_has_filled_the_queue_for_days() -> None:
    ann = [Task(n, 0.0, HOUR_S, HOUR_S, 8, user="ann", program=f"a{n}") for n in range(1, 401)]  # 100 hours of the rack
    bob = stream("bob", 1000, 10 * HOUR_S, 90 * HOUR_S, 4 * HOUR_S, HOUR_S)
    fair, plain = play(ann + bob), play(ann + bob, Policy())
    assert longest_s(plain, "bob") > 20 * HOUR_S
    assert longest_s(fair, "bob") <= 1.1 * HOUR_S, "he waits for the next place at most"


def test_turns_are_counted_in_time_of_the_rack() -> None:
    turns = Turns()
    turns.begin("1.1", 0.5, 0.0, passes=True)
    turns.begin("2.1", 0.25, 0.0, passes=False)
    turns.advance(4 * HEAD_START_S - 1.0)
    assert turns.by_use
    turns.advance(4 * HEAD_START_S)
    assert not turns.by_use, "a quarter of the rack more has gone by, for four times the head start"
    turns.end("1.1", 4 * HEAD_START_S)
    turns.advance(4 * HEAD_START_S * (1 + BACK_AT) - 1.0)
    assert not turns.by_use
    turns.advance(4 * HEAD_START_S * (1 + BACK_AT))
    assert turns.by_use
    turns.end("2.1", 9 * HEAD_START_S)
    turns.end("never begun", 9 * HEAD_START_S)
    turns.advance(99 * HEAD_START_S)
    assert turns.by_use


def test_a_quiet_time_gives_no_more_than_the_head_start() -> None:
    turns = Turns()
    turns.begin("1.1", 1.0, 0.0, passes=False)
    turns.end("1.1", 1000 * HEAD_START_S)
    turns.begin("2.1", 1.0, 1000 * HEAD_START_S, passes=True)
    turns.advance(1001 * HEAD_START_S)
    assert not turns.by_use


def test_passing_is_told_apart_from_taking_turns() -> None:
    """Priorities, limits and jobs that cannot run are no passing; one's own turn is none either."""
    bench = Bench(node())
    policy = Policy(fair_share=True, max_running_per_owner=1)
    bench.submit(job(1, request(8), owner="ann", submitted_at_s=0.0))
    assert [one.passes for one in bench.place(policy)] == [False]
    bench.submit(
        job(2, request(2), owner="ann", submitted_at_s=1.0),  # at the limit
        job(3, request(2), owner="carol", labels=("none has it",), submitted_at_s=1.0),  # impossible
        job(4, request(2), owner="dave", priority=1, submitted_at_s=500.0),
        job(5, request(2), owner="bob", submitted_at_s=500.0),
        job(6, request(6), owner="eve", submitted_at_s=600.0),
    )
    bench.now += 60.0
    bench.happen(ev.Reported("n1", report("1.1", "ended")), ev.Collected("1.1"), ev.Removed("n1", "1.1"))
    assert {one.job: one.passes for one in bench.place(policy)} == {4: False, 5: False, 2: False}
    bench.submit(job(7, request(2), owner="frank", submitted_at_s=700.0))
    assert {one.job: one.passes for one in bench.place(policy)} == {7: True}, "eve's older one waits"


def test_the_step_lets_the_turn_change_by_time_alone() -> None:
    bench = Bench(node())
    bench.submit(job(1, request(8), owner="ann"))
    settings = Settings(policy=FAIR)
    step(bench.state, [], bench.now, settings, bench.memory)
    bench.state.turns.begin("9.1", 1.0, bench.now, passes=True)
    bench.state.turns.begin("9.2", 1.0, bench.now, passes=True)
    step(bench.state, [], bench.now + 2 * HEAD_START_S, settings, bench.memory)
    assert not bench.state.turns.by_use
