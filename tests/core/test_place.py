"""What a pass of the scheduler must do, checked against plain arithmetic over jobs and nodes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.rack.amounts import capacity, demand
from racksack_controller.core.state import Drain, Job, Node, State
from racksack_controller.simulate import invariants
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.spec import ArraySpec
from tests.core.builders import GIB, Bench, gpus, inventory, job, node, request
from tests.sizes import sized

GREEDY = Policy(backfill=Backfill.GREEDY)


def filled(nodes: list[Node], jobs: list[Job]) -> Bench:
    """A rack with a queue."""
    bench = Bench(*nodes)
    bench.submit(*jobs)
    bench.now = 10_000.0
    return bench


@st.composite
def racks(draw: st.DrawFn) -> list[Node]:
    """One to five nodes, unequal, some with devices."""
    count = draw(st.integers(1, 5))
    made = []
    for number in range(count):
        devices = gpus(draw(st.integers(0, 3)), vram=draw(st.sampled_from([8, 24])) * GIB, prefix=f"n{number}")
        has = inventory(draw(st.integers(1, 16)), draw(st.integers(1, 64)), draw(st.integers(10, 100)), devices)
        made.append(node(f"n{number}", inventory=has, max_jobs=draw(st.sampled_from([None, 1, 3]))))
    return made


@st.composite
def queues(draw: st.DrawFn) -> list[Job]:
    """Up to twenty jobs of mixed sizes and priorities."""
    made = []
    for number in range(1, draw(st.integers(1, 20)) + 1):
        wanted = draw(st.sampled_from([None, GpuRequest(1), GpuRequest(2), GpuRequest(1, vram_bytes=20 * GIB)]))
        cpus = draw(st.sampled_from([0.5, 1, 2, 3.333, 8]))
        wants = request(cpus, draw(st.integers(1, 32)), wanted, draw(st.integers(0, 30)))
        made.append(job(number, wants, priority=draw(st.integers(-2, 2)), time_limit_s=draw(st.integers(60, 7200))))
    return made


def room_for(state: State, one: Job) -> list[str]:
    """The nodes that could take the job now: the same question as the scheduler's, in plain loops."""
    found = []
    for server in state.nodes.values():
        held = [a.allocation for a in state.attempts.values() if a.node == server.name]
        cpus, ram, _, disk, slots = capacity(server)
        need_cpus, need_ram, need_gpus, need_disk, _ = demand(one.spec.resources)
        taken = {uuid for allocation in held for uuid in allocation.gpus}
        least = (one.spec.resources.gpus.vram_bytes or 0) if one.spec.resources.gpus else 0
        devices = [gpu for gpu in server.gpus if gpu.uuid not in taken and gpu.vram_bytes >= least]
        if (
            need_cpus <= cpus - sum(round(a.cpus * 1000) for a in held)
            and need_ram <= ram - sum(a.ram_bytes for a in held)
            and need_disk <= disk - sum(a.disk_bytes for a in held)
            and len(held) < slots
            and need_gpus <= len(devices)
        ):
            found.append(server.name)
    return found


@settings(deadline=None, max_examples=sized(60, 1000))
@given(racks(), queues())
def test_never_over_committed_and_nothing_that_fits_is_left(nodes: list[Node], jobs: list[Job]) -> None:
    bench = filled(nodes, jobs)
    placed = bench.place(GREEDY)
    invariants.check(bench.state)
    assert len({one.job for one in placed}) == len(placed)
    for number in bench.state.queued_ids:
        assert room_for(bench.state, bench.state.jobs[number]) == []
    assert bench.place(GREEDY) == []


@settings(deadline=None, max_examples=sized(60, 1000))
@given(racks(), queues())
def test_placements_come_in_queue_order_and_none_is_passed_over(nodes: list[Node], jobs: list[Job]) -> None:
    bench = filled(nodes, jobs)
    in_order = sorted(jobs, key=lambda one: (-one.spec.priority, one.submitted_at_s, one.id))
    placed = {one.job: one for one in schedule(bench.state, bench.now, GREEDY).placed}
    assert list(placed) == [one.id for one in in_order if one.id in placed]
    for one in in_order:
        if one.id in placed:
            bench.happen(placed[one.id])
        else:
            assert room_for(bench.state, one) == [], f"job {one.id} was passed over"


@settings(deadline=None, max_examples=sized(30, 300))
@given(racks(), queues())
def test_renaming_jobs_and_nodes_changes_nothing(nodes: list[Node], jobs: list[Job]) -> None:
    renamed = [replace(one, owner="zoe", spec=replace(one.spec, name="x")) for one in jobs]
    one, other = filled(nodes, jobs), filled(nodes, renamed)
    assert schedule(one.state, one.now).placed == schedule(other.state, other.now).placed


def test_the_fullest_node_that_holds_it_is_taken() -> None:
    bench = filled([node("big", inventory=inventory(64, 256)), node("small", inventory=inventory(4, 16))], [job(1)])
    assert [placed.node for placed in bench.place()] == ["small"]


def test_gpu_models_and_memory_are_respected() -> None:
    old = node("old", inventory=inventory(devices=gpus(2, model="GeForce GTX 1080 Ti", vram=11 * GIB, prefix="old")))
    new = node("new", inventory=inventory(devices=gpus(2, model="NVIDIA GeForce RTX 3090", prefix="new")))
    by_model = job(1, request(gpu=GpuRequest(1, model="rtx 3090")))
    by_memory = job(2, request(gpu=GpuRequest(1, vram_bytes=20 * GIB)))
    too_many = job(3, request(gpu=GpuRequest(1, model="3090")))
    bench = filled([old, new], [by_model, by_memory, too_many])
    placed = {one.job: one for one in bench.place()}
    assert {number: one.node for number, one in placed.items()} == {1: "new", 2: "new"}
    assert {placed[1].allocation.gpus, placed[2].allocation.gpus} == {("new-0",), ("new-1",)}


def test_reserve_labels_nodes_and_exclusions() -> None:
    kept = node("kept", reserve=request(6, 1))
    fast = node("fast", labels=("epyc", "ssd"))
    jobs = [
        job(1, request(4)),
        job(2, labels=("ssd",)),
        job(3, nodes=("kept",)),
        job(4, request(4), exclude=("fast",)),
    ]
    bench = filled([kept, fast], jobs)
    assert {one.job: one.node for one in bench.place()} == {1: "fast", 2: "fast", 3: "kept"}


def test_drained_cooling_and_silent_nodes_take_nothing() -> None:
    silent, cooling = node("silent", connected=False), node("cooling", cool_until_s=20_000.0)
    drained = node("drained", drain=Drain("new fan", 1.0))
    bench = filled([silent, cooling, drained], [job(1)])
    assert bench.place() == []
    bench.now = 20_000.0
    assert [placed.node for placed in bench.place()] == ["cooling"]


def test_an_array_keeps_its_limit() -> None:
    spec = ArraySpec(indices=(0, 1, 2, 3), max_running=2)
    bench = filled([node()], [job(n, array=spec, array_id=1, array_index=n - 1) for n in range(1, 5)])
    assert [placed.job for placed in bench.place()] == [1, 2]
    assert bench.place() == []
    bench.happen(ev.CancelRequested(1, "cancelled"))
    assert [placed.job for placed in bench.place()] == [3]


def test_begin_times_are_kept() -> None:
    bench = filled([node()], [job(1, begin_at_s=11_000.0), job(2, not_before_s=12_000.0)])
    assert bench.place() == []
    bench.now = 11_000.0
    assert [placed.job for placed in bench.place()] == [1]
    bench.now = 12_000.0
    assert [placed.job for placed in bench.place()] == [2]


@pytest.mark.parametrize(("one", "other"), [("n1", "n10"), ("n10", "n1"), ("r1", "r1.local"), ("gpu-1", "gpu")])
def test_a_name_that_begins_like_another_is_another_node(one: str, other: str) -> None:
    bench = filled([node(one, labels=("fast",)), node(other, labels=("faster",))], [])
    bench.submit(job(1, nodes=(one,)), job(2, exclude=(one,)), job(3, labels=("fast",)), job(4, labels=("faster",)))
    assert {placed.job: placed.node for placed in bench.place()} == {1: one, 2: other, 3: one, 4: other}
    bench.happen(ev.DrainRequested(one, "new disk"))
    bench.submit(job(5), job(6, nodes=(one,)))
    assert [(placed.job, placed.node) for placed in bench.place()] == [(5, other)]
    assert bench.state.nodes[other].drain is None
    bench.happen(ev.ResumeRequested(one))
    assert [(placed.job, placed.node) for placed in bench.place()] == [(6, one)]
