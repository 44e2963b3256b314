"""Recorded workloads on a rack whose nodes are switched: node-hours, waits, boots and energy, beside always-on.

    RACKSACK_TRACES=... python tests/bench/power_replay.py [NAME ...] [--worth 8] [--idle 300]

Without names all workloads are replayed, which takes some minutes. `/cut` and `/whole`: what was on, set against what
knowing everything would need if jobs could be cut up between nodes, and if they cannot (by CPUs of nodes).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from racksack_controller.core.policy import DEFAULT
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.records import Node
from racksack_controller.simulate.engine import Outcome, Replay
from racksack_controller.simulate.fleet import Fleet
from racksack_controller.simulate.machines import PLENTY, Layout, Machines
from racksack_controller.simulate.metrics import measure
from racksack_controller.simulate.oracle import oracle_node_hours, whole_jobs_cpu_hours
from racksack_controller.simulate.power import PowerModel, PowerUse
from racksack_controller.simulate.workload import read
from racksack_jobspecs.resources import Inventory

NASA, HPC2N = "swf/NASA-iPSC-1993-3.1-cln.swf.gz", "swf/HPC2N-2002-first57days.swf.gz"
LUBLIN, BATSIM = "swf/lublin_256.swf.gz", "easy_oracle/easy.out_jobs.csv.gz"


def unequal(*sizes: int) -> Fleet:
    """Nodes of these sizes."""
    nodes = (Node(name=f"n{at:02}", inventory=Inventory(cpus, PLENTY, PLENTY)) for at, cpus in enumerate(sizes))
    return Fleet(tuple(nodes))


CASES: dict[str, tuple[str, Machines | Fleet, int | None]] = {
    "batsim": (BATSIM, Machines(32, 1, Layout.GANG), None),
    "hpc2n": (HPC2N, Machines(6, 32), None),
    "hpc2n-pool": (HPC2N, Machines(30, 8, Layout.POOL), None),
    "nasa": (NASA, Machines(4, 32), None),
    "nasa-pool": (NASA, Machines(16, 8, Layout.POOL), None),
    "lublin-unequal": (LUBLIN, unequal(64, 64, 32, 32, 32, 16, 16, 16, 16), 1024),
    "hpc2n-unequal": (HPC2N, unequal(64, 32, 32, 32, 16, 16, 16, 16, 8, 8, 8, 8), 1200),
}
# Batsim's machines: 95 W busy or idle, 9.75 W asleep, waking takes 152 s and 19,030 J, suspending 6.1 s and 620 J.
SUSPENDING = PowerModel(
    boot_s=152.0, boot_j=19030.0, off_s=6.1, off_j=620.0, watts_idle=95.0, watts_max=95.0, watts_off=9.75
)
SERVERS = PowerModel()


def model_for(name: str, worth: float | None, idle_off_s: float | None) -> PowerModel:
    """The machines of a workload, and the policy. Boots are not staggered, so that figures can be compared."""
    policy = PowerPolicy(boot_stagger_s=0.0, wait_worth=DEFAULT_POWER.wait_worth if worth is None else worth)
    base = SUSPENDING if name == "batsim" else SERVERS
    fields = {field: getattr(base, field) for field in base.__struct_fields__}
    return PowerModel(**{**fields, "policy": policy, "idle_off_s": idle_off_s})


def replay(
    traces: Path, name: str, power: PowerModel | None, jobs: int | None = None
) -> tuple[list[Outcome], PowerUse | None]:
    """One run, of the first `jobs` if that is given; without `power` always on."""
    trace, machines, limit = CASES[name]
    run = Replay(read(traces / trace)[:limit][:jobs], machines, DEFAULT, power=power)
    return run.run(), run.power_use()


def row(name: str, how: str, outcomes: Sequence[Outcome], use: PowerUse | None) -> str:
    """One line of the table."""
    machines = CASES[name][1]
    found = measure(outcomes, machines)
    sizes = sizes_of(machines)
    on = use.on_s.values() if use else [found.makespan_s] * len(sizes)
    hours, cpu_hours = sum(on) / 3600.0, sum(cpus * on_s for cpus, on_s in zip(sizes, on, strict=True)) / 3600.0
    joules = use.joules if use else hours * 3600.0 * SUSPENDING.watts_idle
    return (
        f"{name:15}{how:12}{found.wait_mean_s:10.1f}{found.slowdown_mean:10.2f}{hours:10.0f}"
        f"{_times(hours, _cut(outcomes, machines))}"
        f"{_times(cpu_hours, _whole(outcomes, machines, sizes) if use else None)}"
        f"{use.boots if use else 0:8}{joules / 1e6:10.2f}"
    )


def sizes_of(machines: Machines | Fleet) -> list[float]:
    """CPUs of each node."""
    if isinstance(machines, Machines):
        return [machines.cpus] * machines.count
    return [node.inventory.cpus for node in machines.nodes if node.inventory is not None]


def _cut(outcomes: Sequence[Outcome], machines: Machines | Fleet) -> float | None:
    """Node-hours with jobs cut up, where nodes are equal."""
    return oracle_node_hours(outcomes, machines.cpus) if isinstance(machines, Machines) else None


def _whole(outcomes: Sequence[Outcome], machines: Machines | Fleet, sizes: Sequence[float]) -> float | None:
    """CPU-hours with whole jobs, where a job lies on one node."""
    single = not isinstance(machines, Machines) or machines.layout is Layout.SINGLE
    return whole_jobs_cpu_hours(outcomes, sizes) if single else None


def _times(on: float, oracle: float | None) -> str:
    return f"{'':8}" if oracle is None else f"{on / oracle:8.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Replay workloads on a rack whose nodes are switched.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--worth", type=float, help="seconds of a node for a second of a job's waiting")
    parser.add_argument("--idle", type=float, help="idle time in seconds; default: learnt")
    options = parser.parse_args()
    traces = Path(os.environ["RACKSACK_TRACES"])
    columns = ("wait s", 10), ("slowdown", 10), ("node-h", 10), ("/cut", 8), ("/whole", 8), ("boots", 8), ("MJ", 10)
    print(f"{'workload':15}{'power':12}" + "".join(f"{title:>{width}}" for title, width in columns))
    for name in options.names or CASES:
        print(row(name, "always on", *replay(traces, name, None)), flush=True)
        model = model_for(name, options.worth, options.idle)
        print(row(name, "switched", *replay(traces, name, model)), flush=True)


if __name__ == "__main__":
    main()
