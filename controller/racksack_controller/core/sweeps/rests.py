"""Nodes that get no runner of a sweep for a while, because one could not be prepared there: /dev/shm was full, say.

A rest ends by itself. Then one runner is tried on that node: if it fails, too, the next rest is longer; once its
workers have come up, the node's rests are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from racksack_controller.core.jobs.requeue import backoff_s
from racksack_controller.core.rack.amounts import allowed, could_ever_hold
from racksack_controller.core.records import Job, Node
from racksack_controller.core.sweeps.records import Rest

FIRST_S = 5.0
MOST_S = 600.0

Rests = Mapping[str, Rest]  # by node


def after_failure(rests: Rests, node: str, reason: str, now: float) -> dict[str, Rest]:
    """The rests after a runner could not be prepared on `node`. Runners that were begun together count once."""
    old = rests.get(node)
    if old is not None and old.until_s > now:
        return {**rests, node: Rest(reason, old.failures, old.until_s)}
    failures = old.failures + 1 if old is not None else 1
    return {**rests, node: Rest(reason, failures, now + backoff_s(failures, first_s=FIRST_S, most_s=MOST_S))}


def without(rests: Rests, node: str) -> dict[str, Rest]:
    """The rests once a runner works on `node`."""
    return {name: rest for name, rest in rests.items() if name != node}


def resting(rests: Rests, now: float) -> tuple[str, ...]:
    """The nodes that get no runner now, by name."""
    return tuple(sorted(name for name, rest in rests.items() if rest.until_s > now))


def to_try(rests: Rests, now: float) -> tuple[str, ...]:
    """The nodes that get one runner, to see whether they can have more, by name."""
    return tuple(sorted(name for name, rest in rests.items() if rest.until_s <= now))


def next_end_s(rests: Rests, now: float) -> float | None:
    """When the next rest ends (Unix time)."""
    return min((rest.until_s for rest in rests.values() if rest.until_s > now), default=None)


def has_node(draft: Job, nodes: Iterable[Node]) -> bool:
    """Whether there is a node that the draft, with all that it excludes, could run on some day: one that is off,
    drained or full counts, and so does one that nobody has seen yet.
    """
    return any(allowed(draft, node) and (node.inventory is None or could_ever_hold(draft, node)) for node in nodes)


def sentence(rests: Rests) -> str:
    """Why no node has a runner: each reason once, with the nodes that gave it where there are several."""
    nodes_of: dict[str, list[str]] = {}
    for name, rest in sorted(rests.items()):
        nodes_of.setdefault(rest.reason, []).append(name)
    if len(rests) == 1:
        return next(iter(nodes_of), "")
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in nodes_of.items())
