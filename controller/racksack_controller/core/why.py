"""The sentence behind a wait or a node's state."""

from __future__ import annotations

import math
from collections.abc import Iterable

from racksack_controller.core.amounts import NAMES, allowed, could_ever_hold, demand, matching_gpus
from racksack_controller.core.rack import Rack
from racksack_controller.core.records import NOT_CONNECTED_YET
from racksack_controller.core.state import Job, Node, State
from racksack_jobspecs.resources import GpuRequest, ResourceRequest
from racksack_jobspecs.states import ACTIVE, JobState
from racksack_jobspecs.units import format_cpus, format_duration, format_memory


def never(job: Job, nodes: Iterable[Node]) -> str | None:
    """Why no node could ever run the job, or None. Nodes not seen yet are given the benefit of the doubt."""
    nodes = list(nodes)
    admitted = [node for node in nodes if allowed(job, node)]
    if not nodes:
        return "the configuration names no node"
    if not admitted:
        return _not_admitted(job, nodes)
    if any(node.inventory is None or could_ever_hold(job, node) for node in admitted):
        return None
    return _too_large(job.spec.resources, admitted)


def _not_admitted(job: Job, nodes: list[Node]) -> str:
    spec = job.spec
    if spec.nodes and not {node.name for node in nodes} & set(spec.nodes):
        return f"there is no node called {' or '.join(spec.nodes)}; `racksack nodes` lists them"
    if spec.labels:
        return f"no node that may run it has the label{'s' * (len(spec.labels) > 1)} {', '.join(spec.labels)}"
    return "every node is excluded by the job itself"


def _too_large(wants: ResourceRequest, nodes: list[Node]) -> str:
    largest_cpus = max(node.inventory.cpus - node.reserve.cpus for node in nodes if node.inventory)
    largest_ram = max(node.inventory.ram_bytes - node.reserve.ram_bytes for node in nodes if node.inventory)
    if wants.cpus > largest_cpus:
        return f"no node has {format_cpus(wants.cpus)} CPUs for jobs; the largest has {format_cpus(largest_cpus)}"
    if wants.ram_bytes > largest_ram:
        return f"no node has {format_memory(wants.ram_bytes)} for jobs; the largest has {format_memory(largest_ram)}"
    if wants.gpus is not None:
        most = max(len(matching_gpus(wants.gpus, node.gpus)) for node in nodes)
        return f"no node has {_gpus_wanted(wants.gpus)}; the most that fit on one is {most}"
    return "no single node has this much CPU, memory and disk together"


def _gpus_wanted(gpus: GpuRequest) -> str:
    size = f" of {format_memory(gpus.vram_bytes)}" if gpus.vram_bytes else ""
    return f"{math.ceil(gpus.count)} GPUs {gpus.model or ''}".rstrip() + size


def why_job(state: State, job: Job, now: float) -> str:
    """Why the job is where it is, in one sentence."""
    if job.state is JobState.HELD:
        return job.reason or "held"
    if job.state in ACTIVE:
        attempt = state.attempts[job.attempt_key]
        return attempt.problem or attempt.why
    if job.state is not JobState.QUEUED:
        return job.reason
    return _why_queued(state, job, now)


def _why_queued(state: State, job: Job, now: float) -> str:
    if job.waits_for:
        return "after " + ", ".join(str(other) for other, _ in job.waits_for)
    start = max(job.not_before_s, job.spec.begin_at_s or 0.0)
    if start > now:
        return f"not before {format_duration(start - now)} from now"
    impossible = never(job, state.nodes.values())
    if impossible is not None:
        return f"never: {impossible}"
    return _blocked_by(state, job, now)


def _blocked_by(state: State, job: Job, now: float) -> str:
    candidates = [node for node in state.nodes.values() if node.inventory is None or could_ever_hold(job, node)]
    usable = [node for node in candidates if node.usable and node.cool_until_s <= now]
    if not usable:
        return "; ".join(_unusable(node, now) for node in candidates[:3])
    if job.spec.array and job.spec.array.max_running:
        return f"at most {job.spec.array.max_running} of its array run at once, or no room yet"
    return "; ".join(_short_of(state.rack, node, job, now) for node in usable[:3])


def _unusable(node: Node, now: float) -> str:
    if not node.connected:
        if node.connection_reason == NOT_CONNECTED_YET:
            return f"{node.name} is being connected"
        return f"{node.name} does not answer: {node.connection_reason}"
    if node.drain is not None:
        return f"{node.name} is drained: {node.drain.reason}"
    return f"{node.name} takes no jobs for {format_duration(node.cool_until_s - now)} after failures"


def _short_of(rack: Rack, node: Node, job: Job, now: float) -> str:
    free = rack.free(now)[:, rack.row[node.name]]
    need = demand(job.spec.resources)
    lacking = [name for name, want, has in zip(NAMES, need, free, strict=True) if want > has]
    return f"{node.name} is short of {' and '.join(lacking)}" if lacking else f"{node.name} is about to take it"


def why_node(state: State, node: Node, now: float) -> str:
    """Why the node is in the state it is in, in one sentence."""
    if not node.connected:
        return node.connection_reason
    if node.drain is not None:
        left = len(state.on_node(node.name))
        return f"drained: {node.drain.reason}" + (f"; {left} jobs still there" if left else "")
    if node.cool_until_s > now:
        return f"takes no jobs for {format_duration(node.cool_until_s - now)} after {node.failures} failed starts"
    return f"runs {len(state.on_node(node.name))} jobs"
