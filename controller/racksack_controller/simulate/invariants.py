"""What must hold after every event, whatever happened. Each check names what it found.

It is worked out from the records alone; the core's indexes are compared with what the records say.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from racksack_controller.core.jobs.gang import job_state
from racksack_controller.core.lifecycle import holds_resources
from racksack_controller.core.queue.job_queue import eligible_at_s
from racksack_controller.core.rack.amounts import DIMENSIONS, MILLI, capacity, demand_of
from racksack_controller.core.state import Allocation, State
from racksack_jobspecs.states import ACTIVE, JobState


class BrokenInvariantError(Exception):
    """The scheduler has contradicted itself: a fault of racksack."""


def check(state: State) -> None:
    """Raise BrokenInvariantError with a sentence when the state contradicts itself."""
    check_capacity(state)
    check_jobs(state)
    check_indexes(state)


def _require(true: bool, sentence: str) -> None:
    if not true:
        raise BrokenInvariantError(sentence)


def check_capacity(state: State) -> None:
    """No node holds more than it has, in any dimension, and no device is given away twice."""
    for name, held in _held(state).items():
        node = state.nodes[name]
        _require(node.inventory is not None, f"{name} holds attempts although nobody has seen it")
        used = [sum(column) for column in zip(*(demand_of(one) for one in held), strict=True)]
        fits = all(amount <= total for amount, total in zip(used, capacity(node), strict=True))
        _require(fits, f"{name} is over-committed: {used} of {capacity(node)}")
        parts: Counter[str] = Counter()
        for one in held:
            parts.update(dict.fromkeys(one.gpus, one.gpu_milli))
        too_much = {uuid for uuid, milli in parts.items() if milli > MILLI}
        _require(not too_much, f"{name} gave {too_much} to more attempts than they hold")
        unknown = set(parts) - {gpu.uuid for gpu in node.gpus}
        _require(not unknown, f"{name} gave away devices that it has not: {unknown}")


def _held(state: State) -> dict[str, list[Allocation]]:
    held: dict[str, list[Allocation]] = {}
    for attempt in state.attempts.values():
        if holds_resources(attempt.state):
            held.setdefault(attempt.node, []).append(attempt.allocation)
    return held


def check_indexes(state: State) -> None:
    """The rack and the queue say what the records say."""
    held = np.zeros((DIMENSIONS, len(state.rack.nodes)), dtype=np.int64)
    for name, allocations in _held(state).items():
        for one in allocations:
            held[:, state.rack.row[name]] += demand_of(one)
    _require(bool(np.array_equal(held, state.rack.held)), "the rack's sums differ from what the attempts hold")
    standing = {number for jobs in state.queue.jobs for _, number in jobs}
    free = {job.id for job in state.jobs.values() if job.state is JobState.QUEUED and not job.waits_for}
    _require(standing <= free, f"jobs {standing - free} are in the queue but do not wait for room")
    later = {number for number in free - standing if eligible_at_s(state.jobs[number]) <= 0}
    _require(not later, f"jobs {later} wait for room but are in no class")


def check_jobs(state: State) -> None:
    """A job is with exactly one attempt or with none, and the queue lists exactly the queued ones."""
    queued = {job.id for job in state.jobs.values() if job.state is JobState.QUEUED}
    _require(set(state.queued_ids) == queued, "the queue and the jobs' states differ")
    for job in state.jobs.values():
        if job.state in ACTIVE:
            attempt = state.attempts.get(job.attempt_key)
            differ = f"job {job.id} and its attempt differ: {attempt}"
            _require(attempt is not None and job_state(state.ranks(attempt)) is job.state, differ)
            _require(attempt is None or len(state.ranks(attempt)) == attempt.ranks, f"job {job.id} has forgotten ranks")
    for attempt in state.attempts.values():
        places = [rank.node for rank in state.ranks(attempt)]
        _require(len(set(places)) == len(places), f"ranks of attempt {attempt.key} share a node: {places}")
        if attempt.state in ACTIVE:
            owner = state.jobs.get(attempt.job)
            current = owner is not None and owner.attempt == attempt.number
            _require(current, f"attempt {attempt.key} is {attempt.state}, but is not with its job")
