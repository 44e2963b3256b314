"""What is to be replayed: the workload, and the racks and policies that are held against each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from racksack_controller.config.config import Config, NodeConfig
from racksack_controller.config.power_nodes import jump_nodes, traits_of
from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Backfill, Policy
from racksack_controller.core.power_records import PowerTraits
from racksack_controller.core.records import Node
from racksack_controller.simulate.engine import Outcome
from racksack_controller.simulate.fleet import PLENTY, Fleet, described, with_changes
from racksack_controller.simulate.machines import Layout, Machines, parse_machines
from racksack_controller.simulate.past import inventories, past
from racksack_controller.simulate.power import PowerModel
from racksack_controller.simulate.workload import Task, WorkloadError, read
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.resources import Inventory
from racksack_jobspecs.units import format_duration

POLICIES: Mapping[str, Policy] = {
    "default": DEFAULT,
    "easy": TEXTBOOK_EASY,
    "fcfs": Policy(backfill=Backfill.NONE, predict=False),
    "conservative": Policy(backfill=Backfill.CONSERVATIVE, predict=False),
    "greedy": Policy(backfill=Backfill.GREEDY, predict=False),
    "fair": Policy(fair_share=True),
}
CONFIGURED = "configured"
AS_IT_WAS = "as it was"


Rack = tuple[str, Machines | Fleet, "PowerModel | None"]


class Variant(msgspec.Struct, frozen=True):
    """One rack under one policy."""

    name: str
    machines: Machines | Fleet
    policy: Policy
    power: PowerModel | None = None


class Scenario(msgspec.Struct, frozen=True):
    """A workload and what it is replayed on; `real` is what became of it, where that is known."""

    tasks: list[Task]
    variants: list[Variant]
    real: list[Outcome] | None = None


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """The command line. `since_s`: for how many seconds back."""

    trace: Path | None = None
    config: Config | None = None
    machines: str = "16x8"
    layout: Layout = Layout.SINGLE
    policies: tuple[str, ...] = ()
    from_history: bool = False
    since_s: float = 30 * 86400.0
    added: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    jobs_max: int | None = None
    idle_off_s: float | None = None  # switch nodes off after so long; None: as configured
    boot_s: float = 120.0
    seed: int = 1


def scenario(wishes: Wishes) -> Scenario:
    """Put together what was asked for. Raises WorkloadError with a sentence, and OSError."""
    real = _history(wishes)
    if real is not None:
        tasks = [one.task for one in real]
    elif wishes.trace is not None:
        tasks = read(wishes.trace)[: wishes.jobs_max]
    else:
        raise WorkloadError("name a workload, or take your own with --from-history")
    policies = _policies(wishes)
    racks = _racks(wishes)
    variants = [
        Variant(f"{name}, {rack}" if rack else name, machines, policy, power)
        for rack, machines, power in racks
        for name, policy in policies.items()
    ]
    return Scenario(tasks, variants, real)


def _history(wishes: Wishes) -> list[Outcome] | None:
    if not wishes.from_history:
        return None
    if wishes.config is None:
        raise WorkloadError("--from-history needs --config: the history is in its spool, and its nodes ran it")
    if wishes.trace is not None:
        raise WorkloadError("name a workload or take your own with --from-history, not both")
    return past(Spool(wishes.config.spool).database, time.time() - wishes.since_s)[-(wishes.jobs_max or 0) :]


def _policies(wishes: Wishes) -> dict[str, Policy]:
    known = dict(POLICIES)
    if wishes.config is not None:
        known = {CONFIGURED: wishes.config.scheduling, **known}
    names = wishes.policies or ((CONFIGURED,) if wishes.config is not None else ("default", "easy"))
    for name in names:
        if name not in known:
            raise WorkloadError(f"there is no policy called {name!r}; choose of {', '.join(known)}")
    return {name: known[name] for name in names}


def _racks(wishes: Wishes) -> list[Rack]:
    """Racks with their names: the given one, and the changed one where something is to be changed."""
    idle = () if wishes.idle_off_s is None else (f"off after {format_duration(wishes.idle_off_s)}",)
    changes = ", ".join([*filter(None, [described(wishes.added, wishes.without)]), *idle])
    if wishes.config is None:
        if wishes.added or wishes.without:
            raise WorkloadError("--add-node and --without change the nodes of a configuration; name it with --config")
        machines = parse_machines(wishes.machines, wishes.layout)
        power = PowerModel(idle_off_s=wishes.idle_off_s, boot_s=wishes.boot_s, seed=wishes.seed) if idle else None
        return [("always on", machines, None), (changes, machines, power)] if power else [("", machines, None)]
    fleet = fleet_of(wishes.config, inventories(Spool(wishes.config.spool).database))
    power = _power(wishes, wishes.config, None)
    if idle and power is None:
        raise WorkloadError("--idle-off is for nodes that can be switched; no node of the configuration has power: on")
    if not changes:
        return [("", fleet, power)]
    changed = with_changes(fleet, wishes.added, wishes.without)
    return [("as it is", fleet, power), (changes, changed, _power(wishes, wishes.config, wishes.idle_off_s))]


def _power(wishes: Wishes, config: Config, idle_off_s: float | None) -> PowerModel | None:
    """What is configured about power; None when no node can be switched. New nodes are always on."""
    own: dict[str, PowerTraits | None] = {f"new{number}": None for number in range(1, len(wishes.added) + 1)}
    jumps = jump_nodes({name: (node.reach, node.power) for name, node in config.nodes.items()})
    for name, node in config.nodes.items():
        traits = None if node.power is None else traits_of(name, node.power, jumps)
        if traits is not None and idle_off_s is not None:
            traits = msgspec.structs.replace(traits, idle_off_s=idle_off_s)
        own[name] = traits
    if not any(own.values()):
        return None
    return PowerModel(boot_s=wishes.boot_s, off_at_start=False, policy=config.power, own=own, seed=wishes.seed)


def fleet_of(config: Config, seen: Mapping[str, Inventory]) -> Fleet:
    """The nodes of a configuration. `seen`: what the controller has found on them.

    Raises WorkloadError when the size of a node is not known.
    """
    return Fleet(tuple(_node(wanted, seen.get(name)) for name, wanted in sorted(config.nodes.items())))


def _node(wanted: NodeConfig, seen: Inventory | None) -> Node:
    if seen is None and (wanted.cpus is None or wanted.ram_bytes is None):
        raise WorkloadError(
            f"nobody knows how large node {wanted.name} is: it was never connected; write its cpus and ram into the"
            " configuration"
        )
    inventory = wanted.complete(seen or Inventory(0, 0, PLENTY))
    return Node(
        name=wanted.name,
        kind=wanted.kind,
        inventory=inventory,
        reserve=wanted.reserve,
        max_jobs=wanted.max_jobs,
        partitions=wanted.partitions,
        labels=wanted.labels,
        overflow=wanted.overflow,
    )
