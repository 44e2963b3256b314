"""What a decision costs: one full pass, and one event, against the number of queued jobs and nodes.

Run: `python tests/bench/scheduler_pass.py [--plot docs/scheduler-cost.svg]`. The rack is busy (about 95 % of its CPUs are
held), the queue mixes owners, sizes, GPUs, labels and time limits. Every figure is the median of repeats in CPU time of
this process; beside it stands the limit: numpy alone comparing every shape with every node, without deciding anything.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.decide import decide, next_wake_s
from racksack_controller.core.place import schedule
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.report import AttemptReport
from racksack_controller.core.state import Job, Node, State
from racksack_jobspecs.resources import Gpu, GpuRequest, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec

GIB = 1024**3
NOW = 1_000_000.0


def make_nodes(count: int, rng: random.Random) -> list[Node]:
    """A rack grown over years: four generations, a quarter of the nodes with devices, some labelled."""
    made = []
    for number in range(count):
        cpus, ram = rng.choice([(32, 128), (48, 192), (64, 256), (128, 512)])
        model, vram = rng.choice([("RTX 3090", 24), ("A100", 80)])
        devices = [Gpu(i, f"G{number}-{i}", "nvidia", model, vram * GIB) for i in range(8 if number % 4 == 0 else 0)]
        inventory = Inventory(cpus, ram * GIB, 4000 * GIB, tuple(devices))
        labels = ("epyc",) if number % 3 == 0 else ()
        made.append(Node(name=f"n{number:04}", inventory=inventory, labels=labels, connected=True))
    return made


def make_shape(rng: random.Random, largest_gib: int) -> dict[str, object]:
    """One of the things that users ask for."""
    gpus = rng.choice([None] * 6 + [GpuRequest(1), GpuRequest(2), GpuRequest(0.5), GpuRequest(1, model="a100")])
    resources = ResourceRequest(
        cpus=rng.choice([0.5, 1, 2, 4, 8, 12, 16, 24, 32, 64] if largest_gib > 40 else [0.5, 1, 2]),
        ram_bytes=rng.randrange(1, largest_gib) * GIB,
        gpus=gpus,
        disk_bytes=rng.choice([0, 0, 0, 50 * GIB]),
    )
    labels = ("epyc",) if rng.random() < 0.1 else ()
    return {"resources": resources, "labels": labels, "time_limit_s": float(rng.randrange(300, 86400))}


def make_jobs(count: int, shapes: int, rng: random.Random, first: int = 1, largest_gib: int = 200) -> list[Job]:
    """Jobs of ten owners, each shape used by one of them."""
    kinds = [(f"user{rng.randrange(10)}", make_shape(rng, largest_gib)) for _ in range(shapes)]
    made = []
    for number in range(first, first + count):
        owner, shape = kinds[rng.randrange(shapes)]
        spec = JobSpec(name="train", project="p", entrypoint="main.py", **shape)  # type: ignore[arg-type]
        made.append(Job(id=number, owner=owner, spec=spec, snapshot="0" * 64, submitted_at_s=NOW - 2e5 + number))
    return made


def fill_rack(state: State, jobs: int, rng: random.Random) -> None:
    """Let small jobs run that began at different times."""
    for job in make_jobs(jobs, 200, rng, first=10_000_000, largest_gib=8):
        apply(state, ev.JobAccepted(job), NOW - 3e5)
    for placed in schedule(state, NOW - 3e5, Policy(backfill=Backfill.GREEDY, starts_max=10**9)):
        apply(state, placed, NOW)
        began_s = NOW - rng.randrange(0, 80_000)
        report = AttemptReport(attempt=f"{placed.job}.1", state="running", started_at_s=began_s)
        apply(state, ev.Reported(placed.node, report), NOW)
    for waiting in list(state.waiting):
        apply(state, ev.CancelRequested(waiting, "enough"), NOW)
    state.take_changes()


def make_state(nodes: int, jobs: int, shapes: int, fill: int, seed: int = 1) -> State:
    """A rack on which about `fill` jobs a node run, and a queue."""
    rng = random.Random(seed)
    state = State()
    for node in make_nodes(nodes, rng):
        state.put_node(node)
    fill_rack(state, nodes * fill, rng)
    for job in make_jobs(jobs, shapes, rng):
        apply(state, ev.JobAccepted(job), NOW)
    state.take_changes()
    return state


def timed(work: Callable[[], object], repeats: int = 9) -> float:
    """Median CPU seconds."""
    spent = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return statistics.median(spent)


def limit_s(state: State) -> float:
    """The bare comparisons: every open line with every node in five dimensions."""
    need = np.ascontiguousarray(state.lines.need[:, state.lines.open_lines()])
    free = state.rack.free(NOW)

    def compare() -> None:
        fits = need[0][:, None] <= free[0]
        for wants, has in zip(need[1:], free[1:], strict=True):
            fits &= wants[:, None] <= has
        fits.any(axis=1)

    return timed(compare, 5)


def event_costs(state: State) -> dict[str, float]:
    """CPU seconds of one event of each kind, the pass excluded."""
    rng = random.Random(7)
    fresh = iter(make_jobs(400, 400, rng, first=50_000_000))
    running = iter([a.key for a in list(state.attempts.values())])
    waiting = iter(list(state.waiting)[::50])
    names = iter(state.nodes)

    def ended() -> None:
        key = next(running)
        node = state.attempts[key].node
        report = AttemptReport(attempt=key, state="ended", outcome="done", started_at_s=NOW - 50, ended_at_s=NOW)
        apply(state, ev.Reported(node, report), NOW)

    return {
        "job accepted": timed(lambda: apply(state, ev.JobAccepted(next(fresh)), NOW), 51),
        "job cancelled": timed(lambda: apply(state, ev.CancelRequested(next(waiting), "x"), NOW), 51),
        "attempt ended": timed(ended, 51),
        "node drained": timed(lambda: apply(state, ev.DrainRequested(next(names), "x"), NOW), 51),
        "decide": timed(lambda: decide(state, NOW), 21),
        "next wake": timed(lambda: next_wake_s(state, NOW, 300.0), 21),
    }


def memory_per_job(count: int = 50_000) -> float:
    """Bytes of resident memory per queued job."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = State()
    for job in make_jobs(count, count // 10, random.Random(3)):
        apply(state, ev.JobAccepted(job), NOW)
    state.take_changes()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / count


def main() -> None:
    """Print the table; draw it when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the largest case")
    options = parser.parse_args()
    cases = [(1000, 100_000, 10_000, fill) for fill in (80, 40, 0)]
    if not options.quick:
        cases = [(1000, jobs, max(10, jobs // 10), 80) for jobs in (1000, 10_000, 30_000)] + cases
        cases += [(nodes, 100_000, 10_000, 80) for nodes in (10, 100, 300)]
    print(f"memory per queued job: {memory_per_job():.0f} bytes")
    print(
        f"{'nodes':>6} {'running':>8} {'queued':>8} {'lines':>7} {'pass ms':>8} {'placed':>7} {'limit ms':>9} {'ratio':>6}"
    )
    for nodes, jobs, shapes, fill in cases:
        state = make_state(nodes, jobs, shapes, fill)
        spent, limit = timed(lambda state=state: schedule(state, NOW)), limit_s(state)
        placed = len(schedule(state, NOW))
        lines = len(state.lines.open_lines())
        print(
            f"{nodes:6} {len(state.attempts):8} {len(state.waiting):8} {lines:7} {spent * 1e3:8.1f} {placed:7}"
            f" {limit * 1e3:9.1f} {spent / limit:6.2f}"
        )
        if (nodes, jobs, fill) == (1000, 100_000, 80):
            for name, cost in event_costs(state).items():
                print(f"        {name}: {cost * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
