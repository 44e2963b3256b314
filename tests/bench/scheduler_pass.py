"""What a decision costs: a pass from scratch, and an event with the pass after it, by queued jobs and nodes.

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
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.report import AttemptReport, ReportState
from racksack_controller.core.state import Job, Node, State
from racksack_controller.core.why import why_job
from racksack_controller.simulate.picture import Chart, Line, draw
from racksack_jobspecs.resources import Gpu, GpuRequest, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState

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
    for placed in schedule(state, NOW - 3e5, Policy(backfill=Backfill.GREEDY, placements_max=10**9)).placed:
        apply(state, placed, NOW)
        began_s = NOW - rng.random() * (state.jobs[placed.job].spec.time_limit_s or 0.0)
        report = AttemptReport(attempt=f"{placed.job}.1", state=ReportState.RUNNING, started_at_s=began_s)
        apply(state, ev.Reported(placed.node, report), NOW)
    for waiting in list(state.queued_ids):
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
    need = np.ascontiguousarray(state.queue.need[:, state.queue.open_classes()])
    free = state.rack.free(NOW)

    def compare() -> None:
        fits = need[0][:, None] <= free[0]
        for wants, has in zip(need[1:], free[1:], strict=True):
            fits &= wants[:, None] <= has
        fits.any(axis=1)

    return timed(compare, 5)


def settle(state: State) -> None:
    """Start all that can start."""
    while placed := schedule(state, NOW).placed:
        for one in placed:
            apply(state, one, NOW)
    state.take_changes()


def event_costs(state: State, repeats: int = 101) -> dict[str, tuple[float, float, int]]:
    """Of each kind of event the CPU seconds of the event alone and of the pass after it, and how many jobs started."""
    rng = random.Random(7)
    fresh = iter(make_jobs(4 * repeats, 4 * repeats, rng, first=50_000_000))
    running = iter(rng.sample(list(state.attempts), 2 * repeats))
    waiting = iter(rng.sample(list(state.queued_ids), min(len(state.queued_ids), repeats)))
    names = iter(list(state.nodes))
    drained = iter(list(state.nodes))

    def ended() -> ev.Event:
        attempt = state.attempts[next(running)]
        times = {"started_at_s": attempt.started_at_s, "ended_at_s": NOW}
        return ev.Reported(
            attempt.node, AttemptReport(attempt=attempt.key, state=ReportState.ENDED, outcome=JobState.DONE, **times)
        )

    kinds: dict[str, Callable[[], ev.Event]] = {
        "job accepted": lambda: ev.JobAccepted(next(fresh)),
        "job cancelled": lambda: ev.CancelRequested(next(waiting), "x"),
        "first job cancelled": lambda: ev.CancelRequested(first_in_line(state), "x"),
        "attempt ended": ended,
        "node drained": lambda: ev.DrainRequested(next(names), "x"),
        "node resumed": lambda: ev.ResumeRequested(next(drained)),
    }
    few = min(repeats, len(state.queued_ids) // 4)
    return {name: event_cost(state, make, few if "node" not in name else 9) for name, make in kinds.items()}


def first_in_line(state: State) -> int:
    """The job that the reservation is for, or the oldest."""
    reservation = schedule(state, NOW).memory.reservation
    return reservation.job if reservation is not None else next(iter(state.queued_ids))


def event_cost(state: State, make: Callable[[], ev.Event], repeats: int) -> tuple[float, float, int]:
    """Median CPU seconds of an event and of the pass after it, and the jobs that these passes started."""
    alone, passes, started = [], [], 0
    memory = schedule(state, NOW).memory
    for _ in range(repeats):
        event = make()
        before = time.process_time()
        apply(state, event, NOW)
        between = time.process_time()
        placed, memory = schedule(state, NOW, memory=memory)
        after = time.process_time()
        alone.append(between - before)
        passes.append(after - between)
        started += len(placed)
        for one in placed:
            apply(state, one, NOW)
        state.take_changes()
    return statistics.median(alone), statistics.median(passes), started


def memory_per_job(count: int = 50_000) -> float:
    """Bytes of resident memory per queued job."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = State()
    for job in make_jobs(count, count // 10, random.Random(3)):
        apply(state, ev.JobAccepted(job), NOW)
    state.take_changes()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / count


def from_scratch(state: State) -> list[ev.Placed]:
    """A pass that knows nothing from the last one."""
    return schedule(state, NOW).placed


def measure(nodes: int, jobs: int, shapes: int, fill: int) -> tuple[State, float]:
    """Print a row of the table; the state, and the pass in milliseconds."""
    state = make_state(nodes, jobs, shapes, fill)
    spent, limit = timed(lambda: from_scratch(state)) * 1e3, limit_s(state) * 1e3
    placed, lines = len(schedule(state, NOW).placed), len(state.queue.open_classes())
    print(
        f"{nodes:6} {len(state.attempts):8} {len(state.queued_ids):8} {lines:7} {spent:8.1f} {placed:7} {limit:9.1f}"
        f" {spent / limit:6.2f}",
        flush=True,
    )
    return state, spent


def measure_events(state: State) -> float:
    """Print a table of events; what the end of an attempt costs with its pass, in milliseconds."""
    settle(state)
    print(f"a pass from scratch that starts nothing: {timed(lambda: from_scratch(state)) * 1e3:.1f} ms")
    costs = event_costs(state)
    for name, (alone, after, started) in costs.items():
        print(f"        {name:22} {alone * 1e3:8.3f} ms, the pass after it {after * 1e3:8.3f} ms, started {started}")
    waits = state.jobs[list(state.queued_ids)[len(state.queued_ids) // 2]]
    rest: dict[str, Callable[[], object]] = {
        "decide": lambda: decide(state, NOW),
        "next wake": lambda: next_wake_s(state, NOW, 300.0),
        "why a job waits": lambda: why_job(Reading(state, NOW), waits),
    }
    for name, work in rest.items():
        print(f"        {name:22} {timed(work, 21) * 1e3:8.3f} ms")
    return sum(costs["attempt ended"][:2]) * 1e3


def main() -> None:
    """Print the tables; draw them when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the largest case")
    parser.add_argument("--plot", type=Path, help="write the curves as SVG")
    options = parser.parse_args()
    print(f"memory per queued job: {memory_per_job():.0f} bytes")
    print("a full pass from scratch, backfill included (a pass starts at most 1,000 jobs)")
    print(" nodes  running   queued   lines  pass ms  placed  limit ms  ratio")
    for fill in () if options.quick else (0, 40):
        measure(1000, 100_000, 10_000, fill)
    largest = Point(1000, 100_000)
    if options.quick:
        return
    by_jobs = [*(Point(1000, jobs) for jobs in (1000, 3000, 10_000, 30_000)), largest]
    by_nodes = [*(Point(nodes, 100_000) for nodes in (10, 30, 100, 300)), largest]
    if options.plot:
        charts = [
            plot("1,000 nodes", "queued jobs, ten of each shape", [(one.jobs, one) for one in by_jobs]),
            plot("100,000 queued jobs of 10,000 shapes", "nodes", [(one.nodes, one) for one in by_nodes]),
        ]
        options.plot.write_text(draw(charts), encoding="utf-8")


class Point:
    """One size of rack and queue, measured. Milliseconds."""

    def __init__(self, nodes: int, jobs: int) -> None:
        self.nodes, self.jobs = nodes, jobs
        state, self.full = measure(nodes, jobs, jobs // 10, FULL)
        self.event = measure_events(state)


def plot(title: str, x_name: str, points: list[tuple[int, Point]]) -> Chart:
    """Both axes logarithmic, so that a straight line of slope one is linear cost."""
    lines = [
        Line("a full pass", [(x, one.full) for x, one in points]),
        Line("an attempt ends", [(x, one.event) for x, one in points]),
    ]
    return Chart(title, x_name, "milliseconds", lines, log_x=True, log_y=True)


if __name__ == "__main__":
    main()
