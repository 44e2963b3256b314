"""What must hold after every event, whatever happened. Each check names what it found."""

from __future__ import annotations

from collections import Counter

from racksack_controller.core.lifecycle import holds_resources
from racksack_controller.core.place import capacity, demand_of
from racksack_controller.core.state import State
from racksack_jobspecs.states import ACTIVE, JobState


def check(state: State) -> None:
    """Raise AssertionError with a sentence when the state contradicts itself."""
    check_capacity(state)
    check_jobs(state)


def check_capacity(state: State) -> None:
    """No node holds more than it has, in any dimension, and no device is held twice."""
    for node in state.nodes.values():
        held = [a for a in state.attempts.values() if a.node == node.name and holds_resources(a.state)]
        if node.inventory is None:
            assert not held, f"{node.name} holds attempts although nobody has seen it"
            continue
        used = [sum(column) for column in zip(*(demand_of(a.allocation) for a in held), strict=True)]
        for amount, total in zip(used, capacity(node), strict=False):
            assert amount <= total, f"{node.name} is over-committed: {used} of {capacity(node)}"
        twice = [uuid for uuid, count in Counter(u for a in held for u in a.allocation.gpus).items() if count > 1]
        assert not twice, f"{node.name} gave {twice} to more than one attempt"
        unknown = {uuid for a in held for uuid in a.allocation.gpus} - {gpu.uuid for gpu in node.gpus}
        assert not unknown, f"{node.name} gave away devices that it has not: {unknown}"


def check_jobs(state: State) -> None:
    """A job is with exactly one attempt or with none, and the queue lists exactly the queued ones."""
    queued = {job.id for job in state.jobs.values() if job.state is JobState.QUEUED}
    assert set(state.waiting) == queued, "the queue and the jobs' states differ"
    for job in state.jobs.values():
        attempt = state.attempts.get(job.attempt_key)
        if job.state in ACTIVE:
            assert attempt is not None, f"job {job.id} is {job.state} without an attempt"
            assert attempt.state is job.state, f"job {job.id} is {job.state}, its attempt {attempt.state}"
    for attempt in state.attempts.values():
        if attempt.state in ACTIVE:
            job = state.jobs.get(attempt.job)
            assert job is not None, f"attempt {attempt.key} is {attempt.state}, its job is unknown"
            assert job.attempt_key == attempt.key, f"attempt {attempt.key} is not its job's current one"
