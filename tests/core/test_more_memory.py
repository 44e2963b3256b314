"""Out of memory: the next attempt gets more, at most what a node has, and it is told."""

from __future__ import annotations

from racksack_controller.core import events as ev
from racksack_jobspecs.states import JobState
from tests.core.builders import GIB, Bench, inventory, job, node, report, request


def out_of_memory(bench: Bench, number: int = 1) -> None:
    bench.now += 600.0  # past the delay of a retry
    key = bench.run(number)
    where = bench.state.attempts[key].node
    bench.happen(ev.Reported(where, report(key, "ended", outcome="oom", reason="too much")), ev.Collected(key))


def asked_gib(bench: Bench) -> float:
    return bench.state.jobs[1].spec.resources.ram_bytes / GIB


def test_each_attempt_asks_for_more_until_no_node_has_any() -> None:
    bench = Bench(node("small", inventory=inventory(8, 8)), node("large", inventory=inventory(8, 20)))
    bench.submit(job(1, request(1, 8), retries=9, oom_factor=1.5))
    out_of_memory(bench)
    assert (bench.state.jobs[1].state, asked_gib(bench)) == (JobState.QUEUED, 12)
    out_of_memory(bench)
    assert asked_gib(bench) == 18
    assert bench.state.attempts["1.2"].allocation.ram_bytes == 12 * GIB
    out_of_memory(bench)
    assert asked_gib(bench) == 20, "no more than the largest node has"
    out_of_memory(bench)
    over = bench.state.jobs[1]
    assert (over.state, over.reason) == (JobState.OOM, "too much; no node that it may run on has more than 20G")
    told = [sentence for _, _, _, sentence in bench.state.take_changes().events]
    assert any(
        "the next attempt gets 12G of memory instead of 8G; queued again" in line.replace(")", "") for line in told
    )


def test_only_where_asked_for_only_after_oom_and_only_where_it_may_run() -> None:
    bench = Bench(node("n1"), node("n2", inventory=inventory(8, 64)))
    bench.submit(job(1, request(1, 8), retries=2))
    out_of_memory(bench)
    assert asked_gib(bench) == 8
    other = Bench(node("n1"), node("n2", inventory=inventory(8, 64)))
    other.submit(job(1, request(1, 30), retries=5, oom_factor=2.0, nodes=("n1",)))
    key = other.run(1)
    other.happen(ev.Reported("n1", report(key, "ended", outcome="failed")), ev.Collected(key))
    assert asked_gib(other) == 30
    out_of_memory(other)
    assert asked_gib(other) == 32


def test_all_ranks_of_a_gang_get_it() -> None:
    bench = Bench(node("n1"), node("n2"), node("n3", inventory=inventory(8, 64)))
    bench.submit(job(1, request(1, 20), gang=2, retries=3, oom_factor=2.0))
    bench.place()
    where = {rank.key: rank.node for rank in bench.state.ranks(bench.state.attempts["1.1"])}
    for key, outcome in (("1.1@1", "oom"), ("1.1", "cancelled")):
        bench.happen(ev.Reported(where[key], report(key, "ended", outcome=outcome)), ev.Collected(key))
    bench.happen(ev.Assembled("1.1"))
    assert asked_gib(bench) == 32, "two nodes have that much, one has more"
