"""Jobs and nodes as the API and the page show them: plain values, units last. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from racksack_controller.core.jobs.gang import leading_rank
from racksack_controller.core.lifecycle import holds_resources
from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.rack.amounts import capacity
from racksack_controller.core.records import Wait
from racksack_controller.core.state import Attempt, Job, Node, State
from racksack_controller.core.why import why_job, why_node
from racksack_controller.nodes.node import NodeStats
from racksack_jobspecs.dependency import SINGLETON
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.states import FINAL

View = dict[str, Any]


def gpu_text(wants: ResourceRequest) -> str:
    """`2 x rtx 3090`, or nothing."""
    if wants.gpus is None:
        return ""
    return f"{wants.gpus.count:g}" + (f" x {wants.gpus.model}" if wants.gpus.model else "")


def wait_text(state: State, wait: Wait) -> str:
    """A dependency as a job file writes it: `afterok:41`, `afterany:15[3]`, `singleton`."""
    if wait.condition == SINGLETON:
        return SINGLETON
    job = None if wait.whole else state.jobs.get(wait.job)
    name = f"{job.array_id}[{job.array_index}]" if job is not None and job.array_id is not None else str(wait.job)
    return f"after{wait.condition}:{name}"


def checkpoints_view(job: Job, attempt: Attempt | None) -> list[View]:
    """What a job has saved, newest first: on the node, where it is yet to come, and on the controller."""
    found = [(one, "controller") for one in reversed(job.checkpoints)]
    if attempt is not None and attempt.pull.newest is not None and attempt.pull.is_due:
        found.insert(0, (attempt.pull.newest, attempt.node))
    return [msgspec.to_builtins(one) | {"where": where} for one, where in found]


def job_view(job: Job, ranks: Sequence[Attempt], state: State, spool: Spool, reading: Reading | None) -> View:
    """A job with its latest attempt: one record or the ranks of a gang, none before the first.

    With a reading it says why it waits, at the cost of a look at all nodes.
    """
    attempt = leading_rank(ranks) if ranks and job.state in FINAL else ranks[0] if ranks else None
    ending = attempt.ending if attempt else None
    endings = [rank.ending for rank in ranks if rank.ending is not None]
    wants = job.spec.resources
    why = job.reason if job.state in FINAL else (why_job(reading, job) if reading else "")
    return {
        "id": job.id,
        "key": job.key,
        "epoch": ranks[0].epoch if ranks else "",
        "name": job.spec.name,
        "owner": job.owner,
        "state": str(job.state),
        "node": ",".join(rank.node for rank in ranks) or None,
        "attempt": job.attempt,
        "cpus": wants.cpus,
        "ram_bytes": wants.ram_bytes,
        "gpus": gpu_text(wants),
        "gang": job.spec.gang,
        "priority": job.spec.priority,
        "submitted_at_s": job.submitted_at_s,
        "started_at_s": attempt.started_at_s if attempt else None,
        "ended_at_s": job.ended_at_s,
        "why": why,
        "outcome_reason": job.reason if job.state in FINAL else "",
        "exit_code": ending.exit_code if ending else None,
        "ram_peak_bytes": max((one.ram_peak_bytes for one in endings if one.ram_peak_bytes is not None), default=None),
        "cpu_s": sum(one.cpu_s or 0.0 for one in endings) if endings else None,
        "output_bytes": sum(one.output_bytes for one in endings) if endings else None,
        "output_files": sum(one.output_files for one in endings) if endings else None,
        "fetched": job.fetched,
        "project": job.spec.project,
        "entrypoint": job.spec.entrypoint,
        "snapshot": job.snapshot,
        "array_id": job.array_id,
        "array_index": job.array_index,
        "after": [wait_text(state, wait) for wait in job.after],
        "waits_for": [wait_text(state, wait) for wait in job.waits_for] if job.state not in FINAL else [],
        "returns": str(spool.returned(job.id)),
    }


def attempt_view(attempt: Attempt) -> View:
    """One attempt, of a gang one rank of it, for the page of a job."""
    ending = attempt.ending
    return {
        "number": attempt.number,
        "rank": attempt.rank,
        "ranks": attempt.ranks,
        "node": attempt.node,
        "state": str(attempt.state),
        "why": attempt.why,
        "problem": attempt.problem,
        "placed_at_s": attempt.placed_at_s,
        "started_at_s": attempt.started_at_s,
        "ended_at_s": attempt.ended_at_s,
        "prepare_s": ending.prepare_s if ending else None,
        "exit_code": ending.exit_code if ending else None,
        "signal": ending.signal if ending else None,
        "reason": ending.reason if ending else attempt.problem,
        "ram_peak_bytes": ending.ram_peak_bytes if ending else None,
        "cpu_s": ending.cpu_s if ending else None,
        "gpus": list(attempt.allocation.gpus),
    }


def node_view(node: Node, state: State, stats: NodeStats | None, now: float) -> View:
    """A node with what its jobs hold."""
    holding = [attempt for attempt in state.on_node(node.name) if holds_resources(attempt.state)]
    cpus_milli, ram, _gpus, _disk, _slots = capacity(node)
    job_of = {uuid: attempt.job for attempt in holding for uuid in attempt.allocation.gpus}
    return {
        "name": node.name,
        "kind": node.kind,
        "state": str(state.node_state(node)),
        "why": why_node(state, node, now),
        "cpus": {"used": round(sum(a.allocation.cpus for a in holding), 3), "total": cpus_milli / 1000},
        "ram_bytes": {"used": sum(a.allocation.ram_bytes for a in holding), "total": ram},
        "gpus": [
            {
                "index": gpu.index,
                "uuid": gpu.uuid,
                "model": gpu.model,
                "vram_bytes": gpu.vram_bytes,
                "job": job_of.get(gpu.uuid),
            }
            for gpu in node.gpus
        ],
        "gpus_set_aside": [
            {"index": gpu.index, "uuid": gpu.uuid, "model": gpu.model, "fault": gpu.fault, "job": job_of.get(gpu.uuid)}
            for gpu in (node.inventory.set_aside if node.inventory else ())
        ],
        "jobs": sorted({attempt.job for attempt in state.on_node(node.name)}),
        "max_jobs": node.max_jobs,
        "labels": list(node.labels),
        "draining_reason": node.drain.reason if node.drain else None,
        "drain_deadline_at_s": node.drain.deadline_at_s if node.drain else None,
        "then_off": node.drain.then_off if node.drain else False,
        "connected_at_s": node.connection_since_s if node.connected else None,
        "load1": stats.load1 if stats else None,
        "disk_free_bytes": stats.disk_free_bytes if stats else None,
    }
