"""What is said about a start is true: a latest moment is kept, whoever is called ahead goes first, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_controller.core import events as ev
from racksack_controller.core.placing.expect import expect
from racksack_controller.core.policy import TEXTBOOK_EASY, Backfill, Policy
from racksack_controller.core.queue.job_queue import class_of
from racksack_controller.core.why import why_job
from racksack_jobspecs.spec import ArraySpec
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report, request
from tests.sizes import sized

DAY_S = 86400.0


def told(bench: Bench, number: int) -> str:
    return why_job(bench.reading(), bench.state.jobs[number])


def with_history(bench: Bench, runs_s: float) -> None:
    """Ann's job1 has run twice before, for so long."""
    for number in (91, 92):
        bench.submit(job(number, name="job1", time_limit_s=7 * DAY_S))
        bench.place()
        key, began_s = f"{number}.1", bench.now
        bench.now += runs_s
        ended = report(key, "ended", started_at_s=began_s, ended_at_s=bench.now)
        bench.happen(ev.Reported("n1", ended), ev.Collected(key), ev.Removed("n1", key), after_s=0.0)


def test_a_time_limit_is_no_expectation() -> None:
    bench = Bench(node())
    bench.submit(job(1, request(8), time_limit_s=7 * DAY_S), job(2, request(8)))
    bench.run(1)
    assert told(bench, 2).endswith("; within 7d0h at the latest (no earlier runs to estimate from)")


def test_earlier_runs_tell_when_and_the_limit_tells_the_latest() -> None:
    bench = Bench(node())
    with_history(bench, 600.0)
    bench.submit(job(1, request(8), name="job1", time_limit_s=3600.0), job(2, request(8)))
    bench.place()
    bench.happen(ev.Reported("n1", report("1.1", started_at_s=bench.now)), after_s=0.0)
    assert told(bench, 2).endswith("; expected to start in 10m00s, within 1h00m at the latest")


def test_what_has_no_limit_gives_no_latest_moment() -> None:
    bench = Bench(node(), node("n2"))
    bench.submit(job(1, request(8), nodes=("n1",)), job(2, request(8), time_limit_s=60.0, nodes=("n2",)))
    bench.place()
    bench.submit(job(3, request(8), nodes=("n1",)), job(4, request(8), nodes=("n2",)))
    bench.place()
    assert bench.state.jobs[1].spec.time_limit_s is None
    assert told(bench, 3) == "n1 is short of CPU (0 free, 8 needed)"
    assert "within" in told(bench, 4)


def test_who_goes_first_is_not_held_up_by_one_who_comes_later() -> None:
    bench = Bench(node())
    bench.submit(job(1, request(6), time_limit_s=1000.0), job(2, request(8), priority=-10))
    bench.place()
    assert bench.memory.reservation is not None
    asked = job(0, request(2), time_limit_s=9999.0, submitted_at_s=bench.now)
    assert why_job(bench.reading(), asked) == "starts now on n1", "a plan"
    bench.submit(job(3, request(2), time_limit_s=9999.0))
    assert told(bench, 3) == "starts now on n1"
    assert [one.job for one in bench.place()] == [3]
    later = job(0, request(0.5), time_limit_s=9999.0, submitted_at_s=bench.now, priority=-10)
    bench.happen(ev.Reported("n1", report("3.1", "ended")))
    bench.place()
    assert "might delay job 2, which is ahead" in why_job(bench.reading(), later)


def test_a_reservation_on_other_nodes_or_of_a_later_moment_keeps_nobody_off() -> None:
    bench = Bench(node(), node("n2"))
    bench.submit(job(1, request(6), time_limit_s=1000.0, nodes=("n1",)), job(2, request(8), nodes=("n1",)))
    bench.place()
    asked = {"submitted_at_s": bench.now, "time_limit_s": 9999.0}
    assert why_job(bench.reading(), job(0, request(2), **asked)) == "starts now on n2"
    assert why_job(bench.reading(), job(0, request(2), submitted_at_s=bench.now, time_limit_s=60.0, nodes=("n1",))) == (
        "starts now on n1"
    )


def test_only_those_who_compete_for_the_same_nodes_are_ahead() -> None:
    bench = Bench(node(labels=("left",)), node("n2", labels=("right",)))
    array = ArraySpec(indices=(0, 1, 2), max_running=1)
    bench.submit(job(1, request(8), labels=("left",)), job(2, request(8), labels=("right",)))
    bench.submit(*(job(n, request(1), array=array, array_id=1, array_index=n - 3) for n in (3, 4, 5)))
    bench.place()
    bench.submit(job(6, request(8), labels=("left",)), job(7, request(8), labels=("right",)))
    bench.submit(job(8, request(9)), job(9, request(4)), job(10, request(4), labels=("right",)))
    bench.place()
    for number, ahead in ((7, "3 jobs are ahead, the first is 3"), (9, "5 jobs are ahead"), (10, "5 jobs are ahead")):
        assert ahead in told(bench, number), number
    bench.happen(ev.CancelRequested(1, "x"), ev.CancelRequested(2, "x"))
    for key in ("1.1", "2.1"):
        bench.happen(ev.Reported("n1" if key[0] == "1" else "n2", report(key, "ended")))
    assert [one.job for one in bench.place()] == [3, 7, 9]
    assert "ahead" not in told(bench, 6), "an array at its limit holds nobody up"
    assert told(bench, 10) == "n2 is short of CPU (0 free, 4 needed)", "nor do jobs that want other nodes"


@settings(deadline=None, max_examples=sized(40, 400))
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(10, 1000), st.integers(1, 2)), min_size=3, max_size=12),
    st.sampled_from([TEXTBOOK_EASY, Policy(backfill=Backfill.CONSERVATIVE, predict=False), Policy(patience_s=0.0)]),
)
def test_the_latest_moment_is_kept(jobs: list[tuple[int, int, int]], policy: Policy) -> None:
    """Whatever is placed beside it, as long as all keep their time limits and nothing else goes before it."""
    bench = Bench(node(), node("n2"))
    for number, (cpus, limit_s, gang) in enumerate(jobs, start=1):
        bench.submit(job(number, request(cpus), time_limit_s=float(limit_s), gang=gang))
    ends: dict[str, tuple[str, float]] = {}
    promised: dict[int, float] = {}
    for _ in range(4000):
        for placed in bench.place(policy):
            keys = [f"{placed.job}.1", *(f"{placed.job}.1@{rank}" for rank in range(1, len(placed.rest) + 1))]
            nodes = [placed.node, *(part.node for part in placed.rest)]
            for key, name in zip(keys, nodes, strict=True):
                bench.happen(ev.Reported(name, report(key, started_at_s=bench.now)), after_s=0.0)
                ends[key] = (name, bench.now + (bench.state.jobs[placed.job].spec.time_limit_s or 0.0))
            assert bench.now <= promised.get(placed.job, np.inf) + 1e-6, f"job {placed.job} is late"
        waiting = [one for one in bench.state.jobs.values() if one.state is JobState.QUEUED]
        if not waiting:
            return
        for one in waiting:
            expected = expect(bench.reading(policy), one, class_of(one))
            if expected.latest_s is not None:
                promised[one.id] = min(promised.get(one.id, np.inf), expected.latest_s)
        first = min(end_s for _, end_s in ends.values())
        bench.now = max(bench.now, first)
        for key in [key for key, (_, end_s) in ends.items() if end_s <= bench.now]:
            name, _ = ends.pop(key)
            bench.happen(ev.Reported(name, report(key, "ended")), after_s=0.0)
    pytest.fail("it never ends")
