"""What is to be replayed: the workload, and the racks and policies that are held against each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from racksack_controller.config import Config, NodeConfig
from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Backfill, Policy
from racksack_controller.core.records import Node
from racksack_controller.simulate.engine import Outcome
from racksack_controller.simulate.fleet import PLENTY, Fleet, described, with_changes
from racksack_controller.simulate.machines import Layout, Machines, parse_machines
from racksack_controller.simulate.past import inventories, past
from racksack_controller.simulate.workload import Task, WorkloadError, read
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.resources import Inventory

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


class Variant(msgspec.Struct, frozen=True):
    """One rack under one policy."""

    name: str
    machines: Machines | Fleet
    policy: Policy


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
        Variant(f"{name}, {rack}" if rack else name, machines, policy)
        for rack, machines in racks
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


def _racks(wishes: Wishes) -> list[tuple[str, Machines | Fleet]]:
    """Racks with their names: the given one, and the changed one where something is to be changed."""
    changes = described(wishes.added, wishes.without)
    if wishes.config is None:
        if changes:
            raise WorkloadError("--add-node and --without change the nodes of a configuration; name it with --config")
        return [("", parse_machines(wishes.machines, wishes.layout))]
    fleet = fleet_of(wishes.config, inventories(Spool(wishes.config.spool).database))
    if not changes:
        return [("", fleet)]
    return [("as it is", fleet), (changes, with_changes(fleet, wishes.added, wishes.without))]


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
    )
