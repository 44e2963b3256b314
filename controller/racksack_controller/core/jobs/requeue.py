"""What becomes of a job when an attempt ends: it is finished, or queued again after a growing delay."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from racksack_controller.core.jobs import gang
from racksack_controller.core.jobs.dependencies import finish
from racksack_controller.core.jobs.oom_retry import with_more_memory
from racksack_controller.core.records import GRACE_S
from racksack_controller.core.state import Attempt, Job, State, Stop
from racksack_jobspecs.states import ACTIVE, JobState

WARN_S_MAX = 600.0  # no warning holds up those for whom a job makes room for longer
LOSSES_MAX = 5  # a job that has cost so many nodes is itself the likely cause
RETRY_DELAY_S_MAX = 300.0  # where the job does not say how long to wait
_SHORT_RUN_S = 60.0  # who asks to be run again so soon has a growing delay
# After an environment could not be made for want of something that the node lacks: soon elsewhere, then as long as a
# package index or a name server may be away. Others may be tried meanwhile.
PREPARE_DELAYS_S = (1.0, 15.0, 60.0, 240.0, 600.0)
_RETRY_WORD = {JobState.FAILED: "exit", JobState.OOM: "oom", JobState.TIMEOUT: "timeout"}


def backoff_s(failures: int, *, first_s: float, most_s: float) -> float:
    """The delay in seconds after so many failures in a row: doubling from `first_s`, at most `most_s`."""
    return float(min(most_s, first_s * 2.0 ** min(failures - 1, 30)))


def end_attempt(
    state: State, attempt: Attempt, outcome: JobState, sentence: str, now: float, *, at_fault: str = "job"
) -> None:
    """Close an attempt with `outcome`, and finish or requeue its job. at_fault: job | node | controller | none.

    Of a gang it closes one rank. Unless that one is done, the others are ended too; the job follows when all are over.
    """
    state.put_attempt(_closed(attempt, outcome, sentence, now, at_fault))
    if attempt.ranks == 1:
        _end_job(state, attempt, outcome, sentence, now, at_fault)
        return
    if outcome is not JobState.DONE:
        end_others(state, attempt, f"{outcome}: {sentence}", now)
    close_gang(state, attempt, now)


def end_others(state: State, attempt: Attempt, sentence: str, now: float) -> None:
    """A rank has not ended well: the others of its gang have no use any more."""
    grace_s = grace_of(state.jobs[attempt.job])
    end_ranks(state, attempt, Stop("cancelled", gang.named(attempt, sentence), grace_s, of_gang=True), now)


def end_ranks(state: State, attempt: Attempt, stop: Stop, now: float) -> None:
    """Wish the end of an attempt, of a gang: of all its ranks; what no node has yet is over at once."""
    unsent = gang.ask_to_end(state, attempt, stop)
    for rank in unsent:
        state.put_attempt(_closed(rank, JobState.CANCELLED, stop.sentence, now, "none"))
    if unsent and attempt.ranks == 1:
        _end_job(state, unsent[0], JobState.CANCELLED, stop.sentence, now, "job")
    elif unsent:
        close_gang(state, attempt, now)


def close_gang(state: State, attempt: Attempt, now: float) -> None:
    """Let the job of a gang follow its ranks; it is over when all of them are."""
    ranks, job = state.ranks(attempt), state.jobs.get(attempt.job)
    if job is None or job.state not in ACTIVE or job.attempt != attempt.number:
        return  # it was over with an earlier rank of this step
    now_in = gang.job_state(ranks)
    if job.state is not now_in:
        state.put_job(replace(job, state=now_in))
    if gang.is_over(ranks):
        one = gang.leading_rank(ranks)
        sentence = gang.named(one, one.problem) if one.problem else ""
        if one.stop is not None or one.state is JobState.DONE:
            sentence = one.problem
        _end_job(state, one, one.state, sentence, now, one.at_fault)


def _closed(attempt: Attempt, outcome: JobState, sentence: str, now: float, at_fault: str) -> Attempt:
    return replace(
        attempt,
        state=outcome,
        ended_at_s=now,
        problem=sentence if attempt.ending is None or attempt.ranks > 1 else attempt.problem,
        failures=0,
        retry_at_s=0.0,
        removed=attempt.removed,
        at_fault=at_fault,
    )


def _end_job(state: State, attempt: Attempt, outcome: JobState, sentence: str, now: float, at_fault: str) -> None:
    """Finish or requeue a job whose attempt (of a gang: the rank that speaks for it) is over."""
    job = state.jobs[attempt.job]
    again = _job_after(job, attempt, outcome, now, at_fault)
    if again is not None and outcome is JobState.OOM and again.retries_used > job.retries_used:
        again, more = with_more_memory(state, again)
        sentence = "; ".join(filter(None, (sentence, more)))
    if again is None:
        if outcome is JobState.LOST and attempt.stop is not None:
            outcome, sentence = JobState.CANCELLED, f"{attempt.stop.sentence}; {sentence}"
        finish(state, replace(job, state=outcome, reason=sentence, ended_at_s=now), now)
    else:
        state.put_job(again)
        state.tell(now, f"attempt {attempt.number} ended as {outcome} ({sentence}); queued again", job=job.id)


def _job_after(job: Job, attempt: Attempt, outcome: JobState, now: float, at_fault: str) -> Job | None:
    """The job's record when it is to run again, else None."""
    queued = replace(job, state=JobState.QUEUED)
    if attempt.stop is not None and not attempt.stop.requeue:
        return None
    if attempt.stop is not None or at_fault == "none":
        return queued if outcome is not JobState.DONE else None
    if at_fault == "node":
        if job.losses >= LOSSES_MAX:
            return None
        avoid = tuple(dict.fromkeys((*job.avoid, attempt.node)))
        delay = backoff_s(job.losses + 1, first_s=1.0, most_s=300.0)
        if outcome is JobState.PREPARE_FAILED:
            delay = PREPARE_DELAYS_S[min(job.losses, len(PREPARE_DELAYS_S) - 1)]
        return replace(queued, losses=job.losses + 1, avoid=avoid, not_before_s=now + delay)
    if has_saved(job, attempt, outcome):
        ran_s = now - (attempt.started_at_s or now)
        delay = backoff_s(attempt.number, first_s=1.0, most_s=300.0) if ran_s < _SHORT_RUN_S else 0.0
        return replace(queued, not_before_s=now + delay)
    if is_retried(job, attempt, outcome) and job.retries_used < job.spec.retries:
        delay = backoff_s(job.retries_used + 1, first_s=job.spec.retry_delay_s, most_s=_retry_delay_most_s(job))
        return replace(queued, retries_used=job.retries_used + 1, not_before_s=now + delay)
    return None


def is_retried(job: Job, attempt: Attempt, outcome: JobState) -> bool:
    """Whether the job's retries cover this failure. A signal is exit code 128 and its number, as in a shell."""
    word = _RETRY_WORD.get(outcome)
    if word is None:
        return False
    words, ending = {word}, attempt.ending
    if outcome is JobState.FAILED and ending is not None:
        code = ending.exit_code if ending.exit_code is not None else 128 + (ending.signal or 0)
        words.add(f"exit:{code}")
    return bool(words & set(job.spec.retry_on)) and not words & set(job.spec.no_retry_on)


def _retry_delay_most_s(job: Job) -> float:
    """Delays grow to five minutes; to an hour where the first one was asked for."""
    return RETRY_DELAY_S_MAX if job.spec.retry_delay_s == 1.0 else max(3600.0, job.spec.retry_delay_s)


def has_saved(job: Job, attempt: Attempt, outcome: JobState) -> bool:
    """Whether the program ended with an exit code by which it asks to be run again."""
    code = attempt.ending.exit_code if attempt.ending else None
    return outcome in (JobState.FAILED, JobState.TIMEOUT) and code in job.spec.resubmit_on


def requeue_now(
    state: State, attempt: Attempt, sentence: str, now: float, *, for_job: int = 0, warns: bool = False
) -> None:
    """End an attempt and queue its job again; one that is only collecting, or cancelled, is left to finish.

    Results that could not be collected so far are not waited for.
    """
    if attempt.state is JobState.COLLECTING and attempt.failures:
        give_up_results(state, attempt, f"{sentence}; {attempt.problem}", now)
        return
    if attempt.state is JobState.COLLECTING or (attempt.stop is not None and not attempt.stop.requeue):
        return
    job = state.jobs[attempt.job]
    warn_s = min(job.spec.warn_s, WARN_S_MAX) if warns else 0.0
    stop = Stop("cancelled", sentence, grace_of(job), warn_s=warn_s, requeue=True, for_job=for_job)
    end_ranks(state, attempt, stop, now)


def grace_of(job: Job) -> float:
    """What a job has to end, in seconds."""
    return GRACE_S if job.spec.grace_s is None else job.spec.grace_s


def drain_ends(state: State) -> Iterator[tuple[str, Attempt, float]]:
    """Node, attempt and Unix time at which its end is to begin, of what runs on drained nodes with a deadline."""
    for node in [node for node in state.nodes.values() if node.drain is not None]:
        deadline_at_s = node.drain.deadline_at_s if node.drain else None
        for attempt in list(state.on_node(node.name)) if deadline_at_s is not None else ():
            if attempt.stop is None and deadline_at_s is not None:
                yield node.name, attempt, deadline_at_s - min(state.jobs[attempt.job].spec.warn_s, WARN_S_MAX)


def give_up_results(state: State, attempt: Attempt, sentence: str, now: float) -> None:
    """Close an attempt whose results cannot be had whole: what was done is lost and runs again, never done."""
    outcome = attempt.ending.outcome if attempt.ending is not None else JobState.LOST
    if outcome is JobState.DONE:
        outcome = JobState.LOST
    end_attempt(state, attempt, outcome, sentence, now, at_fault="node" if outcome is JobState.LOST else "job")
