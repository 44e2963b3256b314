"""What it costs to plan power: a quarter of a rack of unequal nodes is off, and a long queue waits.

    python tests/bench/power_plan.py

Each line is the median of several plans by the production core, in milliseconds.
"""

from __future__ import annotations

import random
import statistics
import time

from racksack_controller.core.policy import DEFAULT
from racksack_controller.core.power.plan import plan_power
from tests.core.builders import job, request
from tests.core.power_bench import PowerBench

RACKS = (10, 40, 200)
QUEUES = (100, 1_000, 10_000)
PLANS = 5


def scene(nodes: int, jobs: int) -> PowerBench:
    """Nodes of 8 to 64 CPUs, the first three quarters on and full, and jobs of 1 to 60 CPUs."""
    chance = random.Random(1)
    sizes = {f"r{number}": chance.choice([8, 16, 32, 64]) for number in range(nodes)}
    on = 3 * nodes // 4
    bench = PowerBench(dict(list(sizes.items())[:on]), on=True)
    for name in list(sizes)[on:]:
        bench.add(name, sizes[name])
    for number in range(1, jobs + 1):
        wants = request(chance.choice([1, 2, 4, 7, 8, 16, 32, 60]))
        bench.submit(job(number, wants, time_limit_s=float(chance.randrange(60, 90_000))))
    bench.place()
    return bench


def measure(nodes: int, jobs: int) -> float:
    """Milliseconds of one plan."""
    bench = scene(nodes, jobs)
    times = []
    for _ in range(PLANS):
        began_s = time.perf_counter()
        plan_power(bench.state, bench.now, bench.power_policy, DEFAULT)
        times.append(time.perf_counter() - began_s)
    return 1e3 * statistics.median(times)


def main() -> None:
    """Print the table."""
    print(f"{'nodes':>6}" + "".join(f"{f'{jobs:,} jobs':>14}" for jobs in QUEUES))
    for nodes in RACKS:
        print(f"{nodes:6}" + "".join(f"{measure(nodes, jobs):11.1f} ms" for jobs in QUEUES), flush=True)


if __name__ == "__main__":
    main()
