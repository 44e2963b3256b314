"""What a decision costs: one full pass, and one event, against the number of queued jobs and nodes.

Run: `python tests/bench/scheduler_pass.py [--plot FILE.svg]`. The queue mixes owners, sizes, GPUs, labels
and time limits. Every figure is the median of repeats in CPU time of this process; beside it stands the limit: numpy
alone comparing every shape with every node, without deciding anything.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.decide import decide, next_wake_s
from racksack_controller.core.place import schedule
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.report import AttemptReport
from racksack_controller.core.state import Job, Node, State
from racksack_controller.core.why import why_job
from racksack_controller.simulate.picture import Chart, Line, draw
from racksack_jobspecs.resources import Gpu, GpuRequest, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec

GIB = 1024**3
NOW = 1_000_000.0
FULL = 80  # small jobs a node: most of what a node has is then in use


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


def measure(nodes: int, jobs: int, shapes: int, fill: int) -> tuple[State, float]:
    """Print a row of the table; the state, and the pass in milliseconds."""
    state = make_state(nodes, jobs, shapes, fill)
    spent, limit = timed(lambda: schedule(state, NOW)) * 1e3, limit_s(state) * 1e3
    placed, lines = len(schedule(state, NOW)), len(state.lines.open_lines())
    print(
        f"{nodes:6} {len(state.attempts):8} {len(state.waiting):8} {lines:7} {spent:8.1f} {placed:7} {limit:9.1f}"
        f" {spent / limit:6.2f}",
        flush=True,
    )
    return state, spent


def main() -> None:
    """Print the tables; draw them when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the largest case")
    parser.add_argument("--plot", type=Path, help="write the curves as SVG")
    options = parser.parse_args()
    print(f"memory per queued job: {memory_per_job():.0f} bytes")
    print("a full pass, backfill included (a pass starts at most 1,000 jobs)")
    print(" nodes  running   queued   lines  pass ms  placed  limit ms  ratio")
    for fill in (0, 40):
        measure(1000, 100_000, 10_000, fill)
    state, largest = measure(1000, 100_000, 10_000, FULL)
    explained = timed(lambda: why_job(state, state.jobs[50_000], NOW))
    for name, cost in {**event_costs(state), "why a job waits": explained}.items():
        print(f"        {name}: {cost * 1e3:.3f} ms")
    if options.quick:
        return
    by_jobs = [(jobs, measure(1000, jobs, jobs // 10, FULL)[1]) for jobs in (1000, 3000, 10_000, 30_000)]
    by_nodes = [(nodes, measure(nodes, 100_000, 10_000, FULL)[1]) for nodes in (10, 30, 100, 300)]
    if options.plot:
        charts = [
            plot("A full pass on 1,000 nodes", "queued jobs", [*by_jobs, (100_000, largest)]),
            plot("A full pass over 100,000 queued jobs of 10,000 shapes", "nodes", [*by_nodes, (1000, largest)]),
        ]
        options.plot.write_text(draw(charts), encoding="utf-8")


def plot(title: str, x_name: str, points: list[tuple[int, float]]) -> Chart:
    """Both axes logarithmic, so that a straight line of slope one is linear cost."""
    return Chart(title, x_name, "milliseconds", [Line("a pass", points)], log_x=True, log_y=True)


if __name__ == "__main__":
    main()
