"""Preemption, off by default: jobs that allow it make room for a waiting job of higher priority.

A job is ended only if it said that it may be (`preemptible`), its priority is lower, and ending it and others on the
same node makes room there at once. Of the nodes on which that would do, the one where least work is lost is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from racksack_controller.core.amounts import demand_of
from racksack_controller.core.events import Preempted
from racksack_controller.core.expect import could_hold
from racksack_controller.core.policy import Policy
from racksack_controller.core.records import Attempt, Job, Node
from racksack_controller.core.state import State
from racksack_controller.core.waiting import Line, line_of


def preemptions(state: State, now: float, policy: Policy) -> list[Preempted]:
    """The jobs to end for the first job that waits. Called after a pass; empty unless preemption is switched on."""
    reserved = state.reservation
    if not policy.preempt or reserved is None or reserved.job not in state.waiting:
        return []
    job = state.jobs[reserved.job]
    line = line_of(job)
    if line.gang > 1 or line.kind is not None or _under_way(state):
        return []
    choices = [found for node in _nodes(state, line, now) if (found := _victims(state, node, job, line)) is not None]
    if not choices:
        return []
    best = min(choices, key=lambda victims: sum(_lost_cpu_s(victim, now) for victim in victims))
    sentence = f"ended to make room for job {job.id}, which has a higher priority; it is queued again"
    return [Preempted(victim.job, sentence) for victim in best]


def _under_way(state: State) -> bool:
    """Whether jobs are already being ended to make room, so that no more are ended than it takes."""
    return any(attempt.stop is not None and attempt.stop.requeue for attempt in state.attempts.values())


def _nodes(state: State, line: Line, now: float) -> Iterator[Node]:
    rack = state.rack
    able = could_hold(rack, line) & rack.usable & (rack.cool_until <= now)
    for row in np.flatnonzero(able):
        yield rack.nodes[row]


def _victims(state: State, node: Node, job: Job, line: Line) -> list[Attempt] | None:
    """The attempts of a node that would have to end, the lowest priority and the youngest first; None: not enough."""
    row = state.rack.row[node.name]
    free = state.rack.total[:, row] - state.rack.held[:, row]
    victims: list[Attempt] = []
    for attempt in sorted(
        _endable(state, node, job), key=lambda one: (state.jobs[one.job].spec.priority, -one.placed_at_s)
    ):
        if np.all(free >= line.need):
            break
        victims.append(attempt)
        free = free + demand_of(attempt.allocation)
    return victims if victims and np.all(free >= line.need) else None


def _endable(state: State, node: Node, job: Job) -> Iterator[Attempt]:
    for attempt in state.on_node(node.name):
        spec = state.jobs[attempt.job].spec
        if spec.preemptible and spec.priority < job.spec.priority and spec.gang == 1 and attempt.ending is None:
            yield attempt


def _lost_cpu_s(attempt: Attempt, now: float) -> float:
    return attempt.allocation.cpus * (now - (attempt.started_at_s or now))
