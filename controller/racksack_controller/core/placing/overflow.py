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
from racksack_controller.core.rack.amounts import COMPARED, MILLI, SLOTS
from racksack_controller.core.rack.rack import Bools, Floats
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
    room = Room(state, rows, now)
    classes = state.queue.open_classes()
    if not len(classes) or not room.is_left():
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
        choice = choose(backlog, job, job_class, rows, room)
        if choice.row < 0:
            backlog.add(job_class)
            continue
        placed.append(_placed(state, job, job_class, choice, room))
        limits.count(job_class)
        if not room.is_left():
            break
    return placed


def clusters(state: State) -> list[int]:
    """The rows of clusters."""
    return [row for row, node in enumerate(state.rack.nodes) if node.overflow is not None]


def is_own(node: Node) -> bool:
    """Whether it is a server of the rack's own, and still one."""
    return node.overflow is None and not node.is_removed


class Room:
    """What is free on the clusters while a pass fills them; -1 where nothing may be placed now."""

    def __init__(self, state: State, rows: list[int], now: float) -> None:
        rack = state.rack
        self._devices = rack.devices
        self._rows = rows
        self._device_free = rack.devices.free.copy()
        self._free = np.full_like(rack.total, -1)
        for row in rows:
            node = rack.nodes[row]
            if node.usable and node.cool_until_s <= now:
                self._free[:, row] = rack.total[:, row] - rack.held[:, row]

    def is_left(self) -> bool:
        """Whether any cluster takes another job."""
        return bool(np.any(self._free[SLOTS, self._rows] >= 1))

    def devices(self, row: int, job_class: JobClass) -> list[int] | None:
        """Where the devices stand that a job would get; None when it has no room."""
        if np.any(self._free[:, row] < np.array(job_class.need)):
            return None
        kind = job_class.kind
        if kind is None:
            return []
        chosen = self._devices.choose(self._device_free, row, kind)
        return chosen if len(chosen) == kind.devices else None

    def take(self, row: int, job_class: JobClass) -> tuple[str, ...]:
        """Take what a job needs; the uuids of its devices."""
        chosen = self.devices(row, job_class) or []
        self._free[:, row] -= np.array(job_class.need)
        if job_class.kind is not None:
            self._device_free[chosen] -= job_class.kind.milli
        return tuple(self._devices.gpus[at].uuid for at in chosen)


def choose(backlog: Backlog, job: Job, job_class: JobClass, rows: list[int], room: Room) -> Choice:
    """The first cluster that is worth it and has room; else what keeps the job from the first that could run it."""
    kept = Choice(-1, "")
    for row in rows:
        node = backlog.state.rack.nodes[row]
        if node.overflow is None or not takes(backlog.state, node, row, job, job_class, backlog.policy):
            continue
        goes, why = worth(backlog, node, node.overflow, job_class)
        if goes and room.devices(row, job_class) is not None:
            return Choice(row, why)
        if not kept.why:
            kept = Choice(-1, f"{_unready(node, backlog.now)}; {why}" if goes else why)
    return kept


def _unready(node: Node, now: float) -> str:
    """Why a cluster takes no job that is to go there."""
    if not node.connected:
        return f"{node.name} does not answer: {node.connection_reason}"
    if node.drain is not None:
        return f"{node.name} is drained: {node.drain.reason}"
    if node.cool_until_s > now:
        return f"{node.name} takes no jobs for {format_duration(node.cool_until_s - now)} after failures"
    return f"{node.name} has no room for more of our jobs"


def takes(state: State, node: Node, row: int, job: Job, job_class: JobClass, policy: Policy) -> bool:
    """Whether a cluster could run a job at all: one rank, no terminal, no longer than its time limit."""
    if job_class.gang > 1 or job.spec.interactive or node.overflow is None:
        return False
    is_asked = job_class.limit_s >= 0 and job_class.limit_s != policy.default_time_limit_s
    if is_asked and job_class.limit_s > node.overflow.time_limit_s:
        return False
    return bool(could_hold(state.rack, job_class)[row])


def worth(backlog: Backlog, node: Node, terms: Overflow, job_class: JobClass) -> tuple[bool, str]:
    """Whether a job goes to a cluster, and why; or what it waits for instead."""
    admitted = backlog.state.rack.admitted(job_class.admission) & backlog.own
    if not admitted.any():
        return True, f"asked for {node.name}"
    able = backlog.able(job_class)
    if not able.any():
        return True, f"only {node.name} could hold it"
    here_s, there_s = backlog.wait_s(job_class, able), wait_there_s(backlog.state, node, backlog.now)
    length_s = backlog.length_s(job_class)
    worth_s = terms.cost * length_s
    there = f"on {node.name} {_about(there_s)}"
    if here_s - there_s > worth_s:
        return True, f"the wait here is expected to be {_about(here_s)}, {there}, for a job of {_about(length_s)}"
    least = f"it runs there only to save more than {_about(worth_s)} ({terms.cost:g} times its length)"
    return False, f"it waits for a server of the rack, about {_about(here_s)}; {there}; {least}"


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


def _placed(state: State, job: Job, job_class: JobClass, choice: Choice, room: Room) -> Placed:
    wants, node = job.spec.resources, state.rack.nodes[choice.row]
    uuids = room.take(choice.row, job_class)
    milli = job_class.kind.milli if job_class.kind else MILLI
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
    choice = choose(backlog, job, job_class, rows, Room(state, rows, now))
    if choice.row >= 0:
        return f"starts now on {state.rack.nodes[choice.row].name}"
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
