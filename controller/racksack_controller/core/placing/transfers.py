"""What it takes to bring a job's content to a node: its project, data sets and checkpoint."""

from __future__ import annotations

import numpy as np

from racksack_controller.core.rack.rack import Ints
from racksack_controller.core.records import Job
from racksack_controller.core.state import State
from racksack_jobspecs.units import format_duration, format_memory

SAME_S = 2.0  # a difference that is worth no worse packing
TOLD_BYTES = 100 * 1024**2


def contents_of(job: Job) -> dict[str, int]:
    """Bytes by digest; content of unknown size counts nothing."""
    wanted = {job.snapshot: job.snapshot_bytes}
    wanted |= {one.digest: one.bytes for one in job.data if one.digest}
    return wanted | {one.digest: one.bytes for one in job.checkpoints[-1:]}


def transfer_s(state: State, job: Job, node: str) -> float:
    """How long a job's content is expected to take to a node; none to the controller's own machine (links)."""
    if node in state.nodes and state.nodes[node].kind == "local":
        return 0.0
    return state.contents.transfer_s(node, contents_of(job))


def nearest(state: State, job: Job, rows: Ints, count: int) -> Ints:
    """Of nodes that have room now those to which the least has to be sent, as long as that makes `count`."""
    wanted = contents_of(job)
    if len(rows) <= count or not any(wanted.values()):
        return rows
    took = np.array([transfer_s(state, job, state.rack.nodes[row].name) for row in rows.tolist()])
    allowed_s = np.sort(took)[count - 1] + SAME_S
    near: Ints = rows[took <= allowed_s]
    return near


def transfer_told(state: State, job: Job, node: str) -> str:
    """`2.1G has to be sent to r1, about 40s`; empty for little, and where it is there."""
    missing = state.contents.missing_bytes(node, contents_of(job))
    seconds = transfer_s(state, job, node)
    if missing < TOLD_BYTES or seconds < SAME_S:
        return ""
    return f"{format_memory(missing)} must be sent to {node}, which takes about {format_duration(round(seconds))}"
