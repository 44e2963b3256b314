"""The order of the queue: priority, then age."""

from __future__ import annotations

from racksack_controller.core.state import Job, State


def startable(job: Job, now: float) -> bool:
    """Whether nothing but room keeps the job from starting at `now`."""
    return not job.waits_for and job.not_before_s <= now and (job.spec.begin_at_s or 0.0) <= now


def queue_order(state: State, now: float) -> list[Job]:
    """The jobs that may start at `now`, first in line first. O(n log n) in queued jobs."""
    jobs = [job for job_id in state.waiting if startable(job := state.jobs[job_id], now)]
    running = _running_per_array(state, jobs)
    jobs.sort(key=lambda job: (-job.spec.priority, job.submitted_at_s, job.id))
    return _within_array_limits(jobs, running)


def _running_per_array(state: State, queued: list[Job]) -> dict[int, int]:
    limited = {job.array_id for job in queued if job.spec.array and job.spec.array.max_running}
    counts: dict[int, int] = {}
    if limited:
        for attempt in state.attempts.values():
            job = state.jobs.get(attempt.job)
            if job is None or job.array_id is None or job.array_id not in limited:
                continue
            if state.current(job) is attempt:
                counts[job.array_id] = counts.get(job.array_id, 0) + 1
    return counts


def _within_array_limits(jobs: list[Job], running: dict[int, int]) -> list[Job]:
    kept = []
    for job in jobs:
        limit = job.spec.array.max_running if job.spec.array else None
        if limit is not None and job.array_id is not None:
            if running.get(job.array_id, 0) >= limit:
                continue
            running[job.array_id] = running.get(job.array_id, 0) + 1
        kept.append(job)
    return kept
