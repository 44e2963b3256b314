"""What the store adds to an event just before it is applied.

The core has only jobs that are not over. An event about others gets what became of them here, in the same step that
applies it and after the step before was saved: memory and store together are then the whole truth, and nothing can
happen between the look and its use.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.jobs.dependencies import targets_of
from racksack_controller.core.records import Past
from racksack_controller.core.state import State
from racksack_controller.store import Store, broken_elements, is_whole, jobs_by_id, sweep_state
from racksack_jobspecs.states import FINAL, JobState
from racksack_jobspecs.sweep.states import SweepState

_OUTCOMES = {
    SweepState.DONE: JobState.DONE,
    SweepState.FAILED: JobState.FAILED,
    SweepState.CANCELLED: JobState.CANCELLED,
}


class Lookups:
    """The looks of one step; each is made once."""

    def __init__(self, state: State, store: Store) -> None:
        self._state, self._store = state, store
        self._past: dict[tuple[int, bool], Past] = {}

    def inform(self, event: ev.Event) -> ev.Event:
        """The event with all that is to be known for it. Raises StoreError."""
        if isinstance(event, ev.JobAccepted):
            targets = targets_of(self._state, event.job)
            return replace(event, past=self._look(targets)) if targets else event
        if isinstance(event, ev.DependencyEnded):
            return replace(event, past=self._look(event.targets))
        if isinstance(event, ev.RetryRequested):
            return self._retry(event)
        return event

    def _retry(self, event: ev.RetryRequested) -> ev.Event:
        if event.job in self._state.jobs:
            return event
        found = self._store.look(lambda connection: jobs_by_id(connection, [event.job]))
        if not found:
            return event
        job = found[0]
        broken = {}
        if job.array_id is not None and job.array_id not in self._state.arrays:
            broken = self._store.look(lambda connection: broken_elements(connection, job.spec.submission))
        return replace(event, record=job, past=self._look(targets_of(self._state, job)), broken=broken)

    def _look(self, targets: Iterable[tuple[int, bool]]) -> tuple[Past, ...]:
        wanted = tuple(targets)
        for target in wanted:
            if target not in self._past:
                self._past[target] = self._store.look(lambda connection, target=target: past_of(connection, *target))  # type: ignore[misc]
        return tuple(self._past[target] for target in wanted)


def past_of(connection: sqlite3.Connection, number: int, whole: bool) -> Past:
    """What became of a job, an array or a sweep; of one that the store has never had, or not any more: lost."""
    jobs = jobs_by_id(connection, [number])
    if not jobs:
        state_of_sweep = sweep_state(connection, number)
        if state_of_sweep is None:
            return Past(number, whole, JobState.LOST, f"job {number}, of which nothing is known,")
        return Past(number, whole, _OUTCOMES.get(state_of_sweep), f"sweep {number}")
    job = jobs[0]
    if whole:
        for element, state in broken_elements(connection, job.spec.submission, limit=1).items():
            [one] = jobs_by_id(connection, [element])
            return Past(number, whole, state, f"{number}[{one.array_index}]")
        return Past(number, whole, JobState.DONE if is_whole(connection, job.spec.submission) else None)
    called = f"{job.array_id}[{job.array_index}]" if job.array_id is not None else f"job {number}"
    return Past(number, whole, job.state if job.state in FINAL else None, called)
