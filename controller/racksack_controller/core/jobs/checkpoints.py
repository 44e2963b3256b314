"""Checkpoints: what a node has of one is brought to the controller, and the next attempt goes on from the newest there.

The node decides when one is taken, since it alone sees the program's marks, and goes on while the controller is away.
Here it is decided when one is brought: once in the job's interval, at once after a warning, and with the results when
an attempt has ended otherwise than done (`effects.attempts` does that in `Collect`).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.jobs.requeue import backoff_s
from racksack_controller.core.records import Checkpoint, Pull
from racksack_controller.core.report import AttemptReport, SavedReport
from racksack_controller.core.state import Attempt, Job, State
from racksack_jobspecs.states import JobState

KEPT = 2  # on the controller: should the newest be damaged there, the one before still is
RETRY_FIRST_S, RETRY_MOST_S = 5.0, 300.0


def take_saved(state: State, attempt: Attempt, report: AttemptReport, now: float) -> Attempt:
    """Note what a report says of checkpoints; the attempt as it is then."""
    saved, job = report.checkpoint, state.jobs.get(attempt.job)
    if saved is None or job is None or attempt.rank or not job.spec.checkpoint:
        return attempt
    pull = _pull_after(attempt, job, saved, now)
    if pull == attempt.pull:
        return attempt
    if pull.problem and not pull.is_told:
        pull = replace(pull, is_told=True)
        state.tell(now, f"checkpoint failed: {pull.problem}", job=job.id, node=attempt.node)
    changed = replace(attempt, pull=pull)
    state.put_attempt(changed)
    return changed


def _pull_after(attempt: Attempt, job: Job, saved: SavedReport, now: float) -> Pull:
    pull = replace(attempt.pull, problem=saved.problem)
    if saved.number <= (pull.newest.number if pull.newest is not None else 0):
        return pull
    newest = Checkpoint(
        number=saved.number,
        digest=saved.digest,
        files=saved.files,
        bytes=saved.bytes,
        taken_at_s=min(saved.taken_at_s, now),  # the node's clock may be ahead
        attempt=attempt.number,
    )
    is_here = bool(job.checkpoints) and job.checkpoints[-1].digest == newest.digest
    return replace(
        pull,
        newest=newest,
        brought=newest.number if is_here else pull.brought,
        not_before_s=now if saved.hurries and not pull.failures else pull.not_before_s,
    )


def to_bring(state: State, now: float) -> Iterator[Attempt]:
    """The attempts whose checkpoint is to be brought now. Those of attempts that have ended come with their results."""
    for attempt in (state.attempts[key] for key in state.open):
        pull = attempt.pull
        is_time = attempt.state is JobState.RUNNING and pull.is_due and pull.not_before_s <= now
        if is_time and state.nodes[attempt.node].connected:
            yield attempt


def brought(state: State, event: ev.CheckpointBrought, now: float) -> None:
    """The next attempt goes on from it; the one before is kept, too."""
    attempt = state.attempts.get(event.attempt)
    job = state.jobs.get(attempt.job) if attempt is not None else None
    if attempt is None or job is None or job.attempt != attempt.number:
        return
    again_s = now + job.spec.checkpoint_every_s
    pull = replace(attempt.pull, brought=event.checkpoint.number, not_before_s=again_s, failures=0)
    state.put_attempt(replace(attempt, pull=pull))
    others = tuple(one for one in job.checkpoints if one.digest != event.checkpoint.digest)
    state.put_job(replace(job, checkpoints=(*others, event.checkpoint)[-KEPT:]))


def failed(state: State, event: ev.CheckpointFailed, now: float) -> None:
    """Try again later, with a growing delay."""
    attempt = state.attempts.get(event.attempt)
    if attempt is None:
        return
    failures = attempt.pull.failures + 1
    delay_s = backoff_s(failures, first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S)
    if failures == 1:
        state.tell(now, f"its checkpoint could not be copied: {event.sentence}", job=attempt.job, node=attempt.node)
    pull = replace(attempt.pull, failures=failures, not_before_s=now + delay_s)
    state.put_attempt(replace(attempt, pull=pull))


def damaged(state: State, event: ev.CheckpointDamaged, now: float) -> None:
    """The job goes on from the one before, or begins anew."""
    job = state.jobs.get(event.job)
    if job is not None:
        left = tuple(one for one in job.checkpoints if one.digest != event.digest)
        state.put_job(replace(job, checkpoints=left))
        then = "it resumes from the one before" if left else "it starts from the beginning"
        state.tell(now, f"the controller's copy of its checkpoint was damaged; {then}", job=job.id)


def saved_at_s(state: State, attempt: Attempt) -> float | None:
    """Until when the work of an attempt is saved (Unix seconds): its newest checkpoint, or its start; None before
    that. Of a gang rank 0 saves for all.
    """
    if attempt.started_at_s is None:
        return None
    first = next((rank for rank in state.ranks(attempt) if rank.rank == 0), attempt)
    newest = first.pull.newest
    return max(attempt.started_at_s, newest.taken_at_s) if newest is not None else attempt.started_at_s
