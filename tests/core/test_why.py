"""The sentences: each names what binds, who is ahead and when to expect the start."""

from __future__ import annotations

import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.policy import Policy
from racksack_controller.core.records import Wait
from racksack_controller.core.why import never, why_job, why_node
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.spec import ArraySpec
from tests.core.builders import GIB, Bench, gpus, inventory, job, node, request


def told(bench: Bench, number: int, policy: Policy | None = None) -> str:
    return why_job(bench.reading(policy or Policy()), bench.state.jobs[number])


def busy() -> Bench:
    """One node of 8 CPUs and 32 GiB; job 1 holds 6 CPUs and 4 GiB for another 1000 s."""
    bench = Bench(node())
    bench.submit(job(1, request(6, 4), time_limit_s=1000.0))
    bench.run(1)
    bench.state.now_s = bench.now = bench.state.attempts["1.1"].placed_at_s
    return bench


def test_the_first_in_the_queue_is_told_what_is_missing_and_when() -> None:
    bench = busy()
    bench.submit(job(2, request(4, 2)))
    bench.place()
    assert (
        told(bench, 2)
        == "n1 is short of CPU (2 free, 4 needed); within 16m41s at the latest (no earlier runs to estimate from)"
    )


def test_one_behind_is_told_who_is_ahead() -> None:
    bench = busy()
    bench.submit(job(2, request(8)), job(3, request(4, 30), owner="bob"))
    bench.place()
    assert told(bench, 3).startswith("n1 is short of CPU (2 free, 4 needed) and memory (28G free, 30G needed)")
    assert told(bench, 3).endswith("; 1 job is ahead, the first is 2 of ann"), "nothing can be said about the time"


def test_room_that_is_kept_for_another_is_said_to_be_kept() -> None:
    bench = busy()
    bench.submit(job(2, request(8)), job(3, request(1), time_limit_s=99_999.0))
    assert bench.place() == []
    assert told(bench, 3).startswith(
        "n1 has room, but it might delay job 2, which is ahead in the queue and waits for more"
    )


def test_devices_gangs_and_several_nodes() -> None:
    bench = Bench(node("a", inventory=inventory(devices=gpus(2))), node("b"), node("c"))
    bench.submit(job(1, request(1, gpu=1)), job(2, request(8), nodes=("b",)))
    bench.place()
    bench.submit(job(3, request(1, gpu=2)), job(4, request(8), gang=2, exclude=("a",)))
    bench.place()
    assert told(bench, 3).startswith("a is short of GPUs (1 free, 2 needed)")
    assert told(bench, 4).startswith("1 of the 2 nodes that it needs have room; b is short of CPU (0 free, 8 needed)")


def test_limits_are_named() -> None:
    bench = Bench(node())
    spec = ArraySpec(indices=(0, 1), max_running=1)
    bench.submit(*(job(number, array=spec, array_id=1, array_index=number - 1) for number in (1, 2)))
    bench.place()
    assert told(bench, 2) == "at most 1 jobs of its array run at once"
    bench.submit(job(3, owner="ann"))
    limit = Policy(max_running_per_owner=1)
    assert told(bench, 3, limit) == "ann already runs 1 jobs, which is the limit for one owner"


def test_what_waits_for_a_moment_or_a_job_or_a_release() -> None:
    bench = Bench(node())
    bench.submit(job(1, begin_at_s=bench.now + 3601.0), job(2, after=(Wait(1),)), job(3))
    bench.happen(ev.HoldRequested(3, "held by ann"))
    assert told(bench, 1).startswith("not before 59m5")
    assert told(bench, 2) == "after job 1 is done (it is queued)"
    assert told(bench, 3) == "held by ann"


def test_nodes_that_cannot_be_used_are_named_with_the_reason() -> None:
    bench = Bench(node("n1"), node("n2", connected=False, connection_reason="no route to host"))
    bench.happen(ev.DrainRequested("n1", "new fan"))
    bench.submit(job(1))
    assert told(bench, 1) == "n1 is drained: new fan; n2 does not answer: no route to host"


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (job(1, request(99)), "no node has 99 CPUs for jobs; the largest has 8"),
        (job(1, request(1, 99)), "no node has 99G for jobs; the largest has 32G"),
        (job(1, request(gpu=GpuRequest(4))), "no node has 4 GPUs; the most that fit on one is 2"),
        (
            job(1, request(gpu=GpuRequest(1, vram_bytes=99 * GIB))),
            "no node has 1 GPUs of 99G; the most that fit on one is 0",
        ),
        (job(1, labels=("fast",)), "no node that may run it has the label fast"),
        (job(1, nodes=("x",)), "there is no node called x; `racksack nodes` lists them"),
    ],
)
def test_what_can_never_run_is_said_at_once(one: object, sentence: str) -> None:
    assert never(one, [node(inventory=inventory(devices=gpus(2)))]) == sentence  # type: ignore[arg-type]
    bench = Bench(node(inventory=inventory(devices=gpus(2))))
    bench.submit(one)  # type: ignore[arg-type]
    assert told(bench, 1) == f"never: {sentence}"


def test_a_node_says_what_it_does() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.run(1)
    assert why_node(bench.state, bench.state.nodes["n1"], bench.now) == "runs 1 job"
    bench.happen(ev.DrainRequested("n1", "new fan"))
    assert why_node(bench.state, bench.state.nodes["n1"], bench.now) == "drained: new fan; 1 jobs still there"


def test_a_record_read_just_before_its_job_ended_is_no_fault() -> None:
    bench = busy()
    stale = bench.state.jobs[1]
    del bench.state.attempts["1.1"]
    assert why_job(bench.reading(), stale) == ""
