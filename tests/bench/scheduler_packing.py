"""Which rule packs best: one job at a time, a batch at once, and GPUs that are shared. Figures of docs/scheduling.md.

Run: `RACKSACK_TRACES=... python tests/bench/scheduler_packing.py`. Without traces only the shared GPUs are compared.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.placing.bin_packing import Ints, dot_product, fewest_nodes, greedy, least_nodes
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.policy import Backfill, Policy, Rule
from racksack_controller.core.rack.node_rules import COSTS
from racksack_controller.core.state import Job, Node, State
from racksack_jobspecs.resources import Gpu, GpuRequest, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec
from tests.simulation.test_packing import panigrahy

GIB = 1024**3
# (GPUs, CPUs, GiB, weight): half of the jobs share a device, or nearly all do.
MIXED = [(0.1, 2, 8, 10), (0.25, 4, 16, 10), (0.3, 4, 16, 8), (0.5, 6, 24, 12), (0.75, 6, 24, 4), (1, 8, 48, 38),
         (2, 16, 96, 8), (4, 32, 160, 4), (8, 64, 300, 4), (0, 4, 16, 12)]  # fmt: skip
SHARED = [(0.1, 2, 8, 20), (0.2, 2, 8, 10), (0.3, 4, 16, 15), (0.5, 6, 24, 25), (0.6, 6, 24, 10), (0.75, 6, 24, 10),
          (1, 8, 48, 10)]  # fmt: skip
EQUAL = [(96, 512, 8)] * 4 + [(96, 512, 0)]  # CPUs, GiB, GPUs of the nodes, in turn
UNEQUAL = [(64, 256, 8), (96, 512, 8), (96, 256, 2), (64, 384, 4), (128, 512, 0)]


def one_at_a_time(items: Ints, free: Ints, rule: Rule) -> int:
    """Nodes used when each item goes, as it comes, to the best used node with room, else to a new one."""
    left, used = free.copy(), np.zeros(len(free), dtype=np.bool_)
    for item in items:
        rows = np.flatnonzero(np.all(left >= item, axis=1) & used)
        if len(rows):
            row = rows[np.argmin(COSTS[rule]((left[rows] / free[rows]).T, (item / free[rows]).T))]
        else:
            row = np.flatnonzero(~used)[0]
        used[row] = True
        left[row] -= item
    return int(used.sum())


def panigrahy_table(traces: Path) -> None:
    """Nodes over all instances, by rule and by steps of the improvement."""
    with (traces / "packing/Panigrahy_subset_known.csv").open() as file:
        known = {row["instance_name"]: row for row in csv.DictReader(file, delimiter="\t")}
    instances = list(panigrahy(traces))
    optimum = {name: int(known[name]["OPT"]) for name, _, _ in instances}
    best = {name: opt if opt > 0 else int(known[name]["best_overall"]) for name, opt in optimum.items()}
    small = [one for one in instances if one[1].shape[1] == 3]
    for rule in (Rule.FIRST_FIT, Rule.BEST_FIT, Rule.L2, Rule.DOT_PRODUCT):
        used = sum(one_at_a_time(items, free, rule) for _, items, free in small)
        print(f"one at a time, 27 instances of 3 dimensions, {rule}: {used} of {sum(best[one[0]] for one in small)}")
    for steps in (0, 300, 2000, 6000, 20_000):
        before, used = time.process_time(), 0
        for _, items, free in instances:
            placed = greedy(items, free)
            better = fewest_nodes(items, free, placed, random.Random(1), steps) if steps else placed
            used += len(np.unique(better))
        total = sum(best.values())
        print(f"batch, {steps} steps: {used} of {total}, {used / total - 1:.2%}, {time.process_time() - before:.1f} s")


def alibaba_table(traces: Path) -> None:
    """The CPU instances that are there at the start, on nodes of 192 CPUs, 1024 GiB, 4000 GB and 100 % network."""
    with gzip.open(traces / "packing/alibaba-gpu-v2025-dlrm.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "CN" and not row["creation_time"]]
    names = ("cpu_request", "memory_request", "disk_request", "rdma_request")
    items = np.array([[round(float(row[name]) * 1000) for name in names] for row in rows])
    free = np.tile([192_000, 1_024_000, 4_000_000, 100_000], (1800, 1))
    start = greedy(items, free)
    better = fewest_nodes(items, free, start, random.Random(1), 5000)
    counts = [len(np.unique(placed)) for placed in (dot_product(items, free), start, better)]
    print(f"alibaba: {len(items)} items, bound {least_nodes(items, free)}, dot product, best start, improved: {counts}")


def share_devices(
    rule: Rule, seed: int, kinds: Sequence[tuple[float, ...]], nodes: Sequence[tuple[int, int, int]]
) -> float:
    """Which part of all devices is in use after 110 % of it were asked for, job by job, and nothing has ended."""
    rng, state = random.Random(seed), State()
    for number in range(40):
        cpus, ram_gib, devices = nodes[number % len(nodes)]
        gpus = tuple(Gpu(index, f"{number}-{index}", "nvidia", "A", 24 * GIB) for index in range(devices))
        state.put_node(Node(name=f"n{number}", connected=True, inventory=Inventory(cpus, ram_gib * GIB, 0, gpus)))
    total = sum(len(node.gpus) for node in state.nodes.values())
    asked, given, number = 0.0, 0.0, 0
    while asked < 1.1 * total:
        number += 1
        [(gpu, cpu, ram, _)] = rng.choices(kinds, [kind[3] for kind in kinds])
        cpus = max(0.5, round(cpu * rng.choice([0.3, 0.6, 1, 1.4]) * (3 if gpu == 1 and rng.random() < 0.1 else 1), 1))
        wants = ResourceRequest(cpus, int(ram * GIB), GpuRequest(gpu) if gpu else None)
        spec = JobSpec(name="j", project="p", entrypoint="m", resources=wants)
        apply(state, ev.JobAccepted(Job(id=number, owner="a", spec=spec, snapshot="", submitted_at_s=number)), number)
        asked += gpu
        placed = schedule(state, number, Policy(backfill=Backfill.GREEDY, rule=rule)).placed
        for one in placed or [ev.CancelRequested(number, "no room")]:
            apply(state, one, number)
        given += gpu if placed else 0.0
        state.take_changes()
    return given / total


def main() -> None:
    """Print all comparisons for which there is data."""
    traces = os.environ.get("RACKSACK_TRACES")
    if traces:
        panigrahy_table(Path(traces))
        alibaba_table(Path(traces))
    for name, kinds, nodes in (
        ("mixed jobs, equal nodes", MIXED, EQUAL),
        ("mixed jobs, unequal nodes", MIXED, UNEQUAL),
        ("shared devices, equal nodes", SHARED, EQUAL),
        ("shared devices, unequal nodes", SHARED, UNEQUAL),
    ):
        for rule in Rule:
            used = [share_devices(rule, seed, kinds, nodes) for seed in range(6)]
            print(f"{name}, {rule}: {sum(used) / len(used):.4f} of the devices in use")


if __name__ == "__main__":
    main()
