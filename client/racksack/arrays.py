"""Jobs of an array: `15[3]` in place of an id, and one line for all of them that are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from racksack.views import JobView
from racksack_jobspecs.states import ACTIVE, JobState

ELEMENTS = re.compile(r"([0-9]{1,15})(?:\[([0-9,\-*]*)\]|_([0-9]{1,15}))")
_INDICES_SHOWN_CHARS = 24


def label(job: JobView) -> str:
    """What a job is called in lists: `42`, of an array `15[3]`; both can be given to every command."""
    return str(job.id) if job.array_id is None or job.array_index is None else f"{job.array_id}[{job.array_index}]"


def folded(jobs: Sequence[JobView]) -> list[list[JobView]]:
    """The jobs in order, with those of an array together that are in one state and hold no node."""
    groups: dict[object, list[JobView]] = {}
    for job in jobs:
        alone = job.array_id is None or JobState(job.state) in ACTIVE
        groups.setdefault(job.id if alone else (job.array_id, job.state), []).append(job)
    return list(groups.values())


def group_label(jobs: Sequence[JobView]) -> str:
    """`15[0-3,7]` for several of an array."""
    if len(jobs) == 1:
        return label(jobs[0])
    text = indices_text(job.array_index for job in jobs if job.array_index is not None)
    if len(text) > _INDICES_SHOWN_CHARS:
        text = f"{text[:_INDICES_SHOWN_CHARS].rpartition(',')[0]},..."
    return f"{jobs[0].array_id}[{text}] x{len(jobs)}"


def indices_text(indices: Iterable[int]) -> str:
    """`0-3,7`."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def wanted_indices(text: str) -> set[int] | None:
    """The indices of `0-3,7`; None for all of them. Raises ValueError."""
    if text in ("", "*"):
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if high < low or high - low > 1_000_000:
            raise ValueError(f"{part} is not a range")
        found.update(range(low, high + 1))
    return found
