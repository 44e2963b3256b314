"""Nodes that get no runner of a sweep for a while, because one could not be prepared there: /dev/shm was full, say.

A backoff ends by itself. Then one runner is tried on that node: if it fails, too, the next backoff is longer; once its
workers have come up, the node's backoffs are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from racksack_controller.core.jobs.requeue import backoff_s
from racksack_controller.core.rack.amounts import allowed, could_ever_hold
from racksack_controller.core.records import Job, Node
from racksack_controller.core.sweeps.records import NodeBackoff

FIRST_S = 5.0
MOST_S = 600.0

Backoffs = Mapping[str, NodeBackoff]  # by node


def after_failure(backoffs: Backoffs, node: str, reason: str, now: float) -> dict[str, NodeBackoff]:
    """The backoffs after a runner could not be prepared on `node`. Runners that were begun together count once."""
    old = backoffs.get(node)
    if old is not None and old.until_s > now:
        return {**backoffs, node: NodeBackoff(reason, old.failures, old.until_s)}
    failures = old.failures + 1 if old is not None else 1
    return {**backoffs, node: NodeBackoff(reason, failures, now + backoff_s(failures, first_s=FIRST_S, most_s=MOST_S))}


def without(backoffs: Backoffs, node: str) -> dict[str, NodeBackoff]:
    """The backoffs once a runner works on `node`."""
    return {name: backoff for name, backoff in backoffs.items() if name != node}


def backing_off(backoffs: Backoffs, now: float) -> tuple[str, ...]:
    """The nodes that get no runner now, by name."""
    return tuple(sorted(name for name, backoff in backoffs.items() if backoff.until_s > now))


def to_try(backoffs: Backoffs, now: float) -> tuple[str, ...]:
    """The nodes that get one runner, to see whether they can have more, by name."""
    return tuple(sorted(name for name, backoff in backoffs.items() if backoff.until_s <= now))


def next_end_s(backoffs: Backoffs, now: float) -> float | None:
    """When the next backoff ends (Unix time)."""
    return min((backoff.until_s for backoff in backoffs.values() if backoff.until_s > now), default=None)


def has_node(draft: Job, nodes: Iterable[Node]) -> bool:
    """Whether there is a node that the draft, with all that it excludes, could run on some day: one that is off,
    drained or full counts, and so does one that nobody has seen yet.
    """
    return any(allowed(draft, node) and (node.inventory is None or could_ever_hold(draft, node)) for node in nodes)


def sentence(backoffs: Backoffs) -> str:
    """Why no node has a runner: each reason once, with the nodes that gave it where there are several."""
    nodes_of: dict[str, list[str]] = {}
    for name, backoff in sorted(backoffs.items()):
        nodes_of.setdefault(backoff.reason, []).append(name)
    if len(backoffs) == 1:
        return next(iter(nodes_of), "")
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in nodes_of.items())
