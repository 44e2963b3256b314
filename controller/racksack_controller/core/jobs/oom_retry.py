"""More memory for the next attempt at a job that ran out of it, when its owner asked for that (`oom_factor`)."""

from __future__ import annotations

import math

from msgspec.structs import replace

from racksack_controller.core.rack.amounts import RAM, capacity, could_ever_hold
from racksack_controller.core.state import Job, State
from racksack_jobspecs.units import format_memory

MIB = 1024**2


def with_more_memory(state: State, job: Job) -> tuple[Job | None, str]:
    """The job as it is tried again, and a sentence about it; None: no node that it may run on has more memory."""
    factor, has = job.spec.oom_factor, job.spec.resources.ram_bytes
    if factor <= 1.0:
        return job, ""
    most = _most(state, job)
    wants = min(math.ceil(has * factor / MIB) * MIB, most)
    if wants <= has:
        return None, f"no node that it may run on has more than {format_memory(max(has, most))}"
    resources = replace(job.spec.resources, ram_bytes=wants)
    sentence = f"the next attempt gets {format_memory(wants)} of memory instead of {format_memory(has)}"
    return replace(job, spec=replace(job.spec, resources=resources)), sentence


def _most(state: State, job: Job) -> int:
    """The most memory that one rank of the job can have, all of its ranks counted."""
    rooms = [capacity(node)[RAM] for node in state.nodes.values() if could_ever_hold(job, node)]
    return sorted(rooms, reverse=True)[job.spec.gang - 1] if len(rooms) >= job.spec.gang else 0
