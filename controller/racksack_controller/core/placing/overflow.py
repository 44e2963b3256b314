"""Which waiting jobs go to a cluster: a node with a queue of its own, used after the own servers.

The pass over the queue (`place`) sees no cluster. What is still queued after it goes to one when the job asks for it,
when no own server could ever hold the job, or when the wait here is expected to exceed the wait there by as much as
the cluster's `cost` says: a cost of 1.5 means that a job of ten minutes goes there to save more than fifteen.

Both waits are estimates. Here: the work that runs and that waits ahead, spread over the servers that could do it, and
a boot when all of those are off. There: how long the jobs waited that run there now, or how long one has waited that
still does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from racksack_controller.core.events import Placed
from racksack_controller.core.placing.conservative import jobs_in_order
from racksack_controller.core.placing.expect import could_hold
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.rack.amounts import COMPARED, GPUS, MILLI, SLOTS
from racksack_controller.core.rack.rack import Bools, Floats, Ints
from racksack_controller.core.records import Allocation, Job, Node, Overflow
from racksack_controller.core.state import State
from racksack_jobspecs.states import JobState
from racksack_jobspecs.units import format_duration

LOOKED_MAX = 2000  # jobs of one pass
PLACED_MAX = 200
UNKNOWN_S = 3600.0  # how long a job is taken to run of which no run is known, when its time limit is no shorter
WAITS_TOLD = 8  # jobs that run on a cluster, the latest, tell how long one waits there


class Choice(NamedTuple):
    """Where a job goes and why, or (`row` -1) what keeps it from going."""

    row: int
    why: str


def overflow(state: State, now: float, policy: Policy) -> list[Placed]:
    """The placements on clusters to make at `now` (Unix seconds), once the own servers have been filled."""
    rows = clusters(state)
    free = _free(state, rows, now)
    classes = state.queue.open_classes()
    if not len(classes) or not np.any(free[SLOTS, rows] >= 1):
        return []
    limits, backlog = Limits(state.running, policy), Backlog(state, now, policy)
    placed: list[Placed] = []
    done: set[int] = set()
    for looked, entry in enumerate(jobs_in_order(state, classes, now, policy, done)):
        if looked == LOOKED_MAX or len(placed) == PLACED_MAX:
            break
        index, job = entry[-1], state.jobs[entry[-2]]
        job_class = state.queue.classes[index]
        if limits.reached(job_class):
            done.add(index)
            continue
        choice = choose(backlog, job, job_class, rows, free)
        if choice.row < 0:
            backlog.add(job_class)
            continue
        placed.append(_placed(state, job, job_class, choice, free))
        limits.count(job_class)
        if not np.any(free[SLOTS, rows] >= 1):
            break
    return placed


def clusters(state: State) -> list[int]:
    """The rows of clusters."""
    return [row for row, node in enumerate(state.rack.nodes) if node.overflow is not None]


def is_own(node: Node) -> bool:
    """Whether it is a server of the rack's own, and still one."""
    return node.overflow is None and not node.is_removed


def _free(state: State, rows: list[int], now: float) -> Ints:
    """What is free; -1 where nothing may be placed now."""
    free = np.full_like(state.rack.total, -1)
    for row in rows:
        node = state.rack.nodes[row]
        if node.usable and node.cool_until_s <= now:
            free[:, row] = state.rack.total[:, row] - state.rack.held[:, row]
    return free


def choose(backlog: Backlog, job: Job, job_class: JobClass, rows: list[int], free: Ints) -> Choice:
    """The first cluster that is worth it and has room."""
    kept = Choice(-1, "")
    for row in rows:
        node = backlog.state.rack.nodes[row]
        if node.overflow is None or not takes(backlog.state, node, row, job, job_class, backlog.policy):
            continue
        why = worth(backlog, node, node.overflow, job_class)
        if not why.startswith(_GOES):
            kept = kept if kept.why else Choice(-1, why)
        elif np.all(free[:, row] >= np.array(job_class.need)) and len(_devices(backlog.state, row, job_class, free)[1]):
            return Choice(row, why)
        else:
            kept = Choice(-1, f"{node.name} takes no more jobs of ours just now")
    return kept


_GOES = ("asked for ", "only ", "the wait ")


def takes(state: State, node: Node, row: int, job: Job, job_class: JobClass, policy: Policy) -> bool:
    """Whether a cluster could run a job at all: one rank, no terminal, no longer than its time limit."""
    if job_class.gang > 1 or job.spec.interactive or node.overflow is None:
        return False
    is_asked = job_class.limit_s >= 0 and job_class.limit_s != policy.default_time_limit_s
    if is_asked and job_class.limit_s > node.overflow.time_limit_s:
        return False
    return bool(could_hold(state.rack, job_class)[row])


def worth(backlog: Backlog, node: Node, terms: Overflow, job_class: JobClass) -> str:
    """Why a job goes to a cluster: one of `_GOES`; or what it waits for instead."""
    admitted = backlog.state.rack.admitted(job_class.admission) & backlog.own
    if not admitted.any():
        return f"asked for {node.name}"
    able = backlog.able(job_class)
    if not able.any():
        return f"only {node.name} could hold it"
    here_s, there_s = backlog.wait_s(job_class, able), wait_there_s(backlog.state, node, backlog.now)
    length_s = backlog.length_s(job_class)
    worth_s = terms.cost * length_s
    there = f"on {node.name} {_about(there_s)}"
    if here_s - there_s > worth_s:
        return f"the wait here is expected to be {_about(here_s)}, {there}, for a job of {_about(length_s)}"
    least = f"it goes there to save more than {_about(worth_s)} ({terms.cost:g} times its length)"
    return f"it waits for the own servers, about {_about(here_s)}; {there}; {least}"


def _about(time_s: float) -> str:
    return format_duration(time_s) if math.isfinite(time_s) else "for ever"


def wait_there_s(state: State, node: Node, now: float) -> float:
    """How long a job is likely to wait in a cluster's queue, in seconds."""
    waited, waiting = [], [0.0]
    for attempt in state.on_node(node.name):
        if attempt.started_at_s is not None:
            waited.append((attempt.placed_at_s, max(0.0, attempt.started_at_s - attempt.placed_at_s)))
        elif attempt.state in (JobState.STAGING, JobState.PREPARING):
            waiting.append(now - attempt.placed_at_s)
    latest = [wait_s for _, wait_s in sorted(waited)[-WAITS_TOLD:]]
    return max(float(np.median(latest)) if latest else 0.0, *waiting)


class Backlog:
    """The work that lies before the own servers, in amounts times seconds, spread over those that could do it."""

    def __init__(self, state: State, now: float, policy: Policy) -> None:
        self.state = state
        self.now = now
        self.policy = policy
        rack = state.rack
        self.own: Bools = np.array([is_own(node) for node in rack.nodes], dtype=np.bool_)
        self._opens_s: Floats = np.array([self._ready_s(row) for row in range(len(rack.nodes))])
        self._work: Floats = np.zeros((COMPARED, len(rack.nodes)))
        self._able: dict[tuple[object, ...], Bools] = {}
        places = np.flatnonzero(rack.allocations.row >= 0)
        ends = rack.allocations.ends(places, now, default_limit_s=UNKNOWN_S, predict=policy.predict)
        held = rack.allocations.need[:COMPARED, places] * (ends - now)
        np.add.at(self._work.T, rack.allocations.row[places], held.T)

    def _ready_s(self, row: int) -> float:
        """In how many seconds a server takes jobs; infinity when nobody knows."""
        node, rack = self.state.rack.nodes[row], self.state.rack
        if rack.usable[row]:
            return 0.0
        power = self.state.power.get(node.name)
        if power is None or node.drain is not None:
            return math.inf
        if math.isfinite(rack.opens_s[row]) and not rack.powered[row]:
            return max(0.0, float(rack.opens_s[row]) - self.now)
        return math.inf

    def able(self, job_class: JobClass) -> Bools:
        """The own servers that could do a job: on, or expected to come on."""
        key = (job_class.admission, job_class.kind, job_class.need)
        able = self._able.get(key)
        if able is None:
            able = self._able[key] = could_hold(self.state.rack, job_class) & self.own
        return able

    def length_s(self, job_class: JobClass) -> float:
        """How long a job is expected to run, in seconds."""
        predicted_s = self.state.history.predict_s(job_class.history)
        if predicted_s >= 0 and self.policy.predict:
            return predicted_s
        return UNKNOWN_S if job_class.limit_s < 0 else min(job_class.limit_s, UNKNOWN_S)

    def wait_s(self, job_class: JobClass, able: Bools) -> float:
        """How long the next job of a class is expected to wait here, in seconds; infinity when no server comes on."""
        ready = able & np.isfinite(self._opens_s)
        if not ready.any():
            return math.inf
        have = self.state.rack.total[:COMPARED, ready].sum(axis=1)
        work = self._work[:, ready].sum(axis=1)
        wanted = np.array(job_class.need[:COMPARED]) > 0
        busy_s = np.where(wanted & (have > 0), work / np.maximum(have, 1), 0.0).max()
        return float(max(busy_s, self._opens_s[ready].min()))

    def add(self, job_class: JobClass) -> None:
        """One more job waits for the own servers."""
        able = self.able(job_class) & np.isfinite(self._opens_s)
        if not able.any():
            return
        have = self.state.rack.total[:COMPARED, able]
        share = have / np.maximum(have.sum(axis=1), 1)[:, None]
        work = np.array(job_class.need[:COMPARED]) * self.length_s(job_class)
        self._work[:, able] += share * work[:, None]


def _devices(state: State, row: int, job_class: JobClass, free: Ints) -> tuple[int, tuple[str, ...] | tuple[None]]:
    """Thousandths, and the devices that a job gets; empty when there are too few, (None,) when it needs none."""
    kind = job_class.kind
    if kind is None:
        return MILLI, (None,)
    devices = state.rack.devices
    good = np.flatnonzero(devices.matching(kind) & (devices.free >= kind.milli) & (devices.row == row))
    if len(good) < kind.devices or free[GPUS, row] < kind.devices * kind.milli:
        return kind.milli, ()
    return kind.milli, tuple(devices.gpus[at].uuid for at in good[: kind.devices].tolist())


def _placed(state: State, job: Job, job_class: JobClass, choice: Choice, free: Ints) -> Placed:
    wants, node = job.spec.resources, state.rack.nodes[choice.row]
    milli, found = _devices(state, choice.row, job_class, free)
    uuids = tuple(uuid for uuid in found if uuid is not None)
    free[:, choice.row] -= np.array(job_class.need)
    return Placed(
        job.id, node.name, Allocation(wants.cpus, wants.ram_bytes, uuids, wants.disk_bytes, milli), choice.why
    )


def why_not(state: State, now: float, policy: Policy, job: Job, job_class: JobClass) -> str | None:
    """What a queued job has to do with clusters, as a sentence; None when none could take it."""
    rows = clusters(state)
    if not rows:
        return None
    backlog = Backlog(state, now, policy)
    for other_class, count in _ahead(state, job, job_class):
        for _ in range(min(count, LOOKED_MAX)):
            backlog.add(other_class)
    choice = choose(backlog, job, job_class, rows, _free(state, rows, now))
    if choice.row >= 0:
        return f"{state.rack.nodes[choice.row].name} is about to take it"
    return choice.why or None


def _ahead(state: State, job: Job, job_class: JobClass) -> Iterator[tuple[JobClass, int]]:
    """The classes of what waits ahead, by priority and age, and how many jobs of each."""
    for index in state.queue.open_classes().tolist():
        other = state.queue.classes[index]
        if other.priority < job_class.priority:
            continue
        ahead = [one for _, one in state.queue.jobs[index][:LOOKED_MAX] if one != job.id]
        if other.priority == job_class.priority:
            ahead = [one for one in ahead if one < job.id]
        yield other, len(ahead)
