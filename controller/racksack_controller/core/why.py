"""The sentence behind a wait or a node's state."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from racksack_controller.core.jobs import gang
from racksack_controller.core.jobs.dependencies import waits_sentence
from racksack_controller.core.placing.expect import Expectation, could_hold, expect, goes_first
from racksack_controller.core.placing.overflow import why_not
from racksack_controller.core.placing.preempt import making_room
from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.placing.transfers import SAME_S
from racksack_controller.core.policy import Policy
from racksack_controller.core.power.why import why_idle, why_power, why_waits
from racksack_controller.core.queue.job_queue import JobClass, class_of, eligible_at_s
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.rack.allocations import OVERDUE_S
from racksack_controller.core.rack.amounts import (
    DISK,
    GPUS,
    MILLI,
    NAMES,
    RAM,
    SLOTS,
    allowed,
    could_ever_hold,
    matching_gpus,
)
from racksack_controller.core.rack.rack import Bools, Floats, Ints
from racksack_controller.core.records import NOT_CONNECTED_YET
from racksack_controller.core.state import Job, Node, State
from racksack_jobspecs.resources import GpuRequest, ResourceRequest, SetAsideGpu
from racksack_jobspecs.states import ACTIVE, JobState
from racksack_jobspecs.units import format_cpus, format_duration, format_memory

GPU_SENTENCES_MAX = 4


def never(job: Job, nodes: Iterable[Node]) -> str | None:
    """Why no node could ever run the job, or None. Nodes not seen yet are given the benefit of the doubt."""
    nodes = [node for node in nodes if not node.is_removed]
    admitted = [node for node in nodes if allowed(job, node)]
    if not nodes:
        return "the configuration names no node"
    if not admitted:
        return _not_admitted(job, nodes)
    able = sum(node.inventory is None or could_ever_hold(job, node) for node in admitted)
    if able >= job.spec.gang:
        return None
    if able:
        nodes_do = "1 node" if able == 1 else f"{able} nodes"
        return f"it needs {job.spec.gang} nodes at once, and only {nodes_do} could run a rank of it"
    return _too_large(job.spec.resources, admitted)


def _not_admitted(job: Job, nodes: list[Node]) -> str:
    spec = job.spec
    if spec.nodes and not {node.name for node in nodes} & set(spec.nodes):
        meant = (
            f"; `gang: {spec.nodes[0]}` asks for that many" if len(spec.nodes) == 1 and spec.nodes[0].isdigit() else ""
        )
        return f"there is no node called {' or '.join(spec.nodes)}{meant}; `racksack nodes` lists them"
    if spec.partition and not any(spec.partition in node.partitions for node in nodes):
        return f"partition {spec.partition} has no nodes"
    if spec.partition and spec.labels:
        return f"no node of partition {spec.partition} that may run it has the labels {', '.join(spec.labels)}"
    if spec.labels:
        return f"no node that may run it has the label{'s' * (len(spec.labels) > 1)} {', '.join(spec.labels)}"
    if spec.partition and spec.nodes:
        return f"{' and '.join(spec.nodes)} does not belong to partition {spec.partition}"
    return "every node is excluded by the job itself"


def _too_large(wants: ResourceRequest, nodes: list[Node]) -> str:
    largest_cpus = max(node.inventory.cpus - node.reserve.cpus for node in nodes if node.inventory)
    largest_ram = max(node.inventory.ram_bytes - node.reserve.ram_bytes for node in nodes if node.inventory)
    if wants.cpus > largest_cpus:
        return f"no node has {format_cpus(wants.cpus)} CPUs for jobs; the largest has {format_cpus(largest_cpus)}"
    if wants.ram_bytes > largest_ram:
        return f"no node has {format_memory(wants.ram_bytes)} for jobs; the largest has {format_memory(largest_ram)}"
    if wants.gpus is not None:
        most = max(len(matching_gpus(wants.gpus, node.all_gpus)) for node in nodes)
        return f"no node has {_gpus_wanted(wants.gpus)}; the most that fit on one is {most}"
    return "no single node has this much CPU, memory and disk together"


def _gpus_wanted(gpus: GpuRequest) -> str:
    size = f" of {format_memory(gpus.vram_bytes)}" if gpus.vram_bytes else ""
    return f"{math.ceil(gpus.count)} GPUs {gpus.model or ''}".rstrip() + size


def why_job(reading: Reading, job: Job) -> str:
    """Why the job is where it is, in one sentence. A few milliseconds however long the queue is."""
    state, now = reading.state, reading.now
    if job.state is JobState.HELD:
        return job.reason or "held"
    if job.state in ACTIVE:
        attempt = state.attempts.get(job.attempt_key)
        if attempt is None:
            return ""  # it has ended since this record of it was read
        ranks = state.ranks(attempt)
        problems = [gang.named(rank, rank.problem) for rank in ranks if rank.problem and rank.state in ACTIVE]
        return "; ".join(problems[:1]) or gang.waits_for(ranks) or ranks[0].why
    if job.state is not JobState.QUEUED:
        return job.reason
    if job.waits_for:
        return waits_sentence(state, job)
    start = eligible_at_s(job)
    if start > now:
        return f"not before {format_duration(start - now)} from now"
    return _why_queued(reading, job)


def _why_queued(reading: Reading, job: Job) -> str:
    state, now, policy = reading.state, reading.now, reading.policy
    job_class = class_of(job)
    if Limits(state.running, policy).reached(job_class):
        return _limit(
            job_class, policy, state.running.in_partition.get((job_class.admission.partition, job_class.owner), 0)
        )
    able = could_hold(state.rack, job_class)
    if able.sum() < job_class.gang:
        impossible = never(job, state.nodes.values())
        if impossible is not None:
            return f"never: {impossible}"
        if set_aside := _needs_set_aside(state, job):
            return set_aside
    ended = dict.fromkeys(attempt.job for attempt in making_room(state, job.id)) if policy.preempt else {}
    if ended:
        jobs = f"job {next(iter(ended))} is" if len(ended) == 1 else f"jobs {', '.join(map(str, ended))} are"
        return f"{jobs} being ended to make room for it"
    beyond = why_not(state, now, policy, job, job_class)
    own = able & np.array([node.overflow is None for node in state.rack.nodes], dtype=np.bool_)
    if beyond is not None and own.sum() < job_class.gang:
        return beyond
    sentence = _why_here(reading, job, job_class, own)
    return f"{sentence}; {beyond}" if beyond is not None else sentence


def _why_here(reading: Reading, job: Job, job_class: JobClass, able: Bools) -> str:
    """Why it waits for the own servers. `able`: those that could hold it."""
    state, now = reading.state, reading.now
    usable = able & state.rack.usable & (state.rack.cool_until <= now)
    by_power = why_waits(reading, job, able)
    if usable.sum() < job_class.gang and by_power:
        return by_power
    if usable.sum() < job_class.gang:
        unseen = [node for node in state.nodes.values() if node.inventory is None and allowed(job, node)]
        waiting_for = ([state.rack.nodes[row] for row in np.flatnonzero(able & ~usable)] + unseen)[:3]
        return "; ".join(_unusable(state, node, now) for node in waiting_for)
    rows = _rows_with_room(state, job_class, usable)
    taker = _taker(reading, job, job_class, rows) if len(rows) >= job_class.gang else None
    if taker is not None:
        return f"starts now on {taker}"
    short = _reserved_away(reading, rows) if len(rows) >= job_class.gang else _short_of(state, job_class, usable)
    sentence = f"{short}{_when(expect(reading, job, job_class), state, now)}"
    return f"{sentence}; {by_power}" if by_power else sentence


def _needs_set_aside(state: State, job: Job) -> str:
    """Which devices the job would need that are set aside; empty where nodes without such could hold it."""
    wants = job.spec.resources.gpus
    nodes = [node for node in state.nodes.values() if could_ever_hold(job, node)]
    if wants is None or any(len(matching_gpus(wants, node.gpus)) >= math.ceil(wants.count) for node in nodes):
        return ""
    missing = [f"{node.name}: {gpu.sentence}; it is set aside" for node in nodes for gpu in _set_aside_of(node)]
    return "; ".join(missing[:GPU_SENTENCES_MAX])


def _set_aside_of(node: Node) -> tuple[SetAsideGpu, ...]:
    return node.inventory.set_aside if node.inventory is not None else ()


def _limit(job_class: JobClass, policy: Policy, running_in: int) -> str:
    if job_class.array is not None:
        return f"at most {job_class.array_limit} jobs of its array run at once"
    owner, partition = job_class.owner, job_class.admission.partition
    if running_in >= policy.partition_limits.get(partition, running_in + 1):
        return f"{owner} already runs {running_in} jobs in partition {partition}, which is the limit for one owner"
    return f"{owner} already runs {policy.max_running_per_owner} jobs, which is the limit for one owner"


def _missing(state: State, job_class: JobClass, rows: Ints) -> tuple[Ints, Ints, Floats]:
    """What is needed, what of it is free on these nodes, and which part of it is missing."""
    free = (state.rack.total - state.rack.held)[:, rows]
    need = np.array(job_class.need, dtype=np.int64)[:, None]
    if job_class.kind is not None:
        devices = state.rack.devices
        free[GPUS] = devices.usable(devices.free, job_class.kind, len(state.rack.nodes))[rows] * MILLI
        need[GPUS] = job_class.kind.devices * MILLI
    return need, free, np.maximum(need - free, 0) / np.maximum(need, 1)


def _rows_with_room(state: State, job_class: JobClass, usable: Bools) -> Ints:
    rows = np.flatnonzero(usable)
    return rows[~_missing(state, job_class, rows)[2].any(axis=0)]


def _short_of(state: State, job_class: JobClass, usable: Bools) -> str:
    """What is missing on the node that comes nearest to having room."""
    rows = np.flatnonzero(usable)
    need, free, missing = _missing(state, job_class, rows)
    fitting = int(np.count_nonzero(~missing.any(axis=0)))
    best = int(np.argsort(missing.sum(axis=0), kind="stable")[fitting])
    name = state.rack.nodes[rows[best]].name
    lacking = " and ".join(
        _amount(int(i), int(need[i, 0]), int(free[i, best])) for i in np.flatnonzero(missing[:, best])
    )
    if job_class.gang > 1:
        return f"{fitting} of the {job_class.gang} nodes that it needs have room; {name} is short of {lacking}"
    return f"{name} is short of {lacking}" + (f", and {len(rows) - 1} other nodes of more" if len(rows) > 1 else "")


def _amount(dimension: int, need: int, free: int) -> str:
    if dimension == SLOTS:
        return f"{NAMES[dimension]} ({max(0, free)} free)"
    shown = format_memory if dimension in (RAM, DISK) else _thousandths
    return f"{NAMES[dimension]} ({shown(max(0, free))} free, {shown(need)} needed)"


def _thousandths(amount: int) -> str:
    return format_cpus(amount / MILLI)


def _taker(reading: Reading, job: Job, job_class: JobClass, rows: Ints) -> str | None:
    """The node among those with room that will take the job next, or None: they are kept for one that goes first."""
    nodes = reading.state.rack.nodes
    reservation = reading.reservation
    if reservation is None or reservation.job not in reading.state.queued_ids:
        return nodes[int(rows[0])].name
    if not goes_first(reading, job, reading.state.jobs[reservation.job]):
        return nodes[int(rows[0])].name
    fits = np.zeros(len(nodes), dtype=np.bool_)
    fits[rows] = True
    if reading.now + _longest_s(reading, job_class, hard=reservation.hard) > reservation.at_s:
        reservation.keep_off(fits, job_class)
    return nodes[int(fits.argmax())].name if fits.sum() >= job_class.gang else None


def _reserved_away(reading: Reading, rows: Ints) -> str:
    name = reading.state.rack.nodes[rows[0]].name
    ahead = reading.reservation.job if reading.reservation is not None else 0
    return f"{name} has room, but it might delay job {ahead}, which is ahead in the queue and waits for more"


def _longest_s(reading: Reading, job_class: JobClass, *, hard: bool) -> float:
    """How long a job may run, or is expected to. Seconds."""
    limit_s = reading.policy.default_time_limit_s if job_class.limit_s < 0 else job_class.limit_s
    predicted_s = reading.state.history.predict_s(job_class.history)
    return limit_s if hard or predicted_s < 0 or not reading.policy.predict else min(limit_s, predicted_s)


def _when(expected: Expectation, state: State, now: float) -> str:
    """When to expect the start, as the end of a sentence."""
    if expected.ahead:
        first = state.jobs[expected.first]
        jobs = "1 job is" if expected.ahead == 1 else f"{expected.ahead} jobs are"
        return f"; {jobs} ahead, the first is {first.id} of {first.owner}"
    latest = ""
    if expected.latest_s is not None and expected.latest_s > now + OVERDUE_S:
        latest = f"within {format_duration(expected.latest_s - now)} at the latest"
    sent_in = format_duration(round(expected.transfer_s))
    sending = f", {sent_in} of it for sending its content" if expected.transfer_s >= SAME_S else ""
    if expected.start_s is not None:
        left_s = expected.start_s - now
        soon = f"expected to start in {format_duration(left_s)}" if left_s > OVERDUE_S else "expected to start at once"
        return f"; {soon}{sending}" + (f", {latest}" if latest else "")
    return f"; {latest}{sending} (no earlier runs to estimate from)" if latest else ""


def _unusable(state: State, node: Node, now: float) -> str:
    by_power = None if node.connected else why_power(state, node, now)
    if by_power is not None:
        return f"{node.name} {by_power}"
    if not node.connected:
        if node.connection_reason == NOT_CONNECTED_YET:
            return f"{node.name} is being connected"
        return f"{node.name} does not answer: {node.connection_reason}"
    if node.drain is not None:
        return f"{node.name} is drained: {node.drain.reason}"
    return f"{node.name} takes no jobs for {format_duration(node.cool_until_s - now)} after failures"


def why_node(state: State, node: Node, now: float) -> str:
    """Why the node is in the state it is in, in one sentence."""
    by_power = why_power(state, node, now)
    if by_power is not None:
        return by_power
    if not node.connected:
        return node.connection_reason
    if node.drain is not None:
        left = len(state.on_node(node.name))
        deadline_s = None if node.drain.deadline_at_s is None else node.drain.deadline_at_s - now
        until = f" for {format_duration(deadline_s)} at most" if deadline_s is not None and deadline_s > 0 else ""
        off = "; to be switched off then" if node.drain.then_off else ""
        return f"drained: {node.drain.reason}" + (f"; {left} jobs still there{until}" if left else "") + off
    if node.cool_until_s > now:
        return f"takes no jobs for {format_duration(node.cool_until_s - now)} after {node.failures} failed starts"
    return f"{_runs(len(state.on_node(node.name)))}{why_idle(state, node, now)}{_of_gpus(node)}"


def _of_gpus(node: Node) -> str:
    """Devices that no job gets, and tools that could not tell."""
    if node.inventory is None:
        return ""
    found = [*(f"{gpu.sentence}; it is set aside" for gpu in _set_aside_of(node)), *node.inventory.problems]
    return "".join(f"; {one}" for one in found[:GPU_SENTENCES_MAX])


def _runs(jobs: int) -> str:
    return f"runs {jobs} job{'s' if jobs > 1 else ''}" if jobs else "runs no job"
