"""Which runner jobs a sweep has: one trial for a node that has rested, and others for the backoff of the rack."""

from __future__ import annotations

import pytest

from racksack_controller.core.records import Drain, Job, Node
from racksack_controller.core.state import State
from racksack_controller.core.sweeps import backoff as sweep_backoff
from racksack_controller.core.sweeps.records import NodeBackoff
from racksack_controller.sweeps import runner_jobs
from racksack_controller.sweeps.active import Active
from racksack_controller.sweeps.runner_plan import Runners, has_node
from tests.core.builders import inventory, node
from tests.sweeps.builders import progress, sweep, sweep_spec

NOW = 100.0
OVER, ON = NodeBackoff("memory was full", 1, NOW - 1), NodeBackoff("memory was full", 1, NOW + 1)


def rack(*nodes: Node) -> State:
    state = State()
    for one in nodes or (node("a", inventory=inventory(cpus=4)), node("b", inventory=inventory(cpus=4))):
        state.put_node(one)
    return state


def settle(state: State, backoffs: dict[str, NodeBackoff], runners_max: int | None = None) -> list[tuple[str, ...]]:
    """The names of the nodes that each queued runner may go to, once nothing is left to change."""
    one = sweep(spec=sweep_spec(1000, runners_max=runners_max))
    active = Active(one, progress(one, backoffs=backoffs))
    jobs: dict[int, Job] = {}
    for _ in range(10):
        wanted = Runners(active, state, jobs, NOW)
        gone = [*wanted.outdated, *wanted.needless]
        if not gone and not wanted.missing:
            return sorted(_may_go_to(job, state) for job in jobs.values())
        jobs = {number: job for number, job in jobs.items() if number not in gone}
        first = max(jobs, default=0) + 1
        jobs |= {first + index: runner_jobs.numbered(job, first + index) for index, job in enumerate(wanted.missing)}
    pytest.fail("it never settles")


def _may_go_to(job: Job, state: State) -> tuple[str, ...]:
    spec = job.spec
    return tuple(name for name in state.nodes if name not in spec.exclude and (not spec.nodes or name in spec.nodes))


def test_a_node_that_rests_gets_none_and_one_that_has_rested_gets_one() -> None:
    assert settle(rack(), {}) == [("a", "b")] * 4
    assert settle(rack(), {"b": ON}) == [("a",)] * 2
    assert settle(rack(), {"b": OVER}) == [("a",), ("a",), ("b",)]
    assert settle(rack(), {"a": OVER, "b": OVER}) == [("a",), ("b",)]
    assert settle(rack(), {"a": ON, "b": ON}) == []
    assert settle(rack(), {"gone": OVER, "a": ON, "b": ON}) == [], "no longer configured"


def test_with_few_runners_trials_go_first_and_do_not_push_each_other_out() -> None:
    assert settle(rack(), {"b": OVER}, runners_max=1) == [("b",)]
    assert settle(rack(), {"a": OVER, "b": OVER}, runners_max=1) == [("a",)]


def test_a_runner_that_waits_for_a_node_that_rests_now_is_replaced() -> None:
    one = sweep(spec=sweep_spec(1000))
    queued = {7: runner_jobs.numbered(runner_jobs.draft(one, NOW), 7)}
    runners = Runners(Active(one, progress(one, backoffs={"b": ON})), rack(), queued, NOW)
    assert runners.outdated == [7]
    assert [job.spec.exclude for job in runners.missing] == [("b",)] * 2


def test_a_node_that_is_off_drained_or_unseen_is_one_to_wait_for() -> None:
    one = sweep()
    active = Active(one, progress(one, backoffs={"b": ON}))
    assert not has_node(active, rack(node("b")), NOW)
    assert not has_node(active, rack(node("a", inventory=inventory(cpus=1)), node("b")), NOW)
    drained = node("a", drain=Drain("a new disk", 1.0))
    for other in (node("a", connected=False), drained, node("a", inventory=None, connected=False)):
        assert has_node(active, rack(other, node("b")), NOW)


def test_rests_grow_and_runners_begun_together_count_once() -> None:
    backoffs = sweep_backoff.after_failure({}, "b", "full", 0.0)
    assert backoffs == sweep_backoff.after_failure(backoffs, "b", "full", 1.0) == {"b": NodeBackoff("full", 1, 5.0)}
    now, waits = 0.0, []
    for _ in range(10):
        now = backoffs["b"].until_s
        backoffs = sweep_backoff.after_failure(backoffs, "b", "full", now)
        waits.append(backoffs["b"].until_s - now)
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 600.0, 600.0, 600.0, 600.0]
    assert sweep_backoff.without(backoffs, "b") == {}


def test_each_reason_is_told_once() -> None:
    backoffs = {
        "c": NodeBackoff("full", 1, 0.0),
        "a": NodeBackoff("full", 1, 0.0),
        "b": NodeBackoff("no Python", 1, 0.0),
    }
    assert sweep_backoff.sentence(backoffs) == "a, c: full; b: no Python"
    assert sweep_backoff.sentence({"a": NodeBackoff("full", 1, 0.0)}) == "full"
