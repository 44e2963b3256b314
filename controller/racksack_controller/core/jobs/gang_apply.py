"""What the events that only gangs have change."""

from __future__ import annotations

from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.jobs.gang import has_come
from racksack_controller.core.jobs.reports import fault_of, outcome_of
from racksack_controller.core.jobs.requeue import end_attempt
from racksack_controller.core.jobs.retry_later import PASSING_DELAY_S_MAX, delay, effect_failed
from racksack_controller.core.state import Attempt, State
from racksack_jobspecs.states import JobState


def go_sent(state: State, event: ev.GoSent, now: float) -> None:
    """The node will let the rank start; that it runs comes as a report."""
    del now
    attempt = state.attempts.get(event.attempt)
    if attempt is not None and attempt.node == event.node:
        state.put_attempt(replace(attempt, go_sent=True, failures=0, problem=""))


def go_failed(state: State, event: ev.GoFailed, now: float) -> None:
    """Ask again later."""
    effect_failed(state, event.node, event.attempt, event.sentence, now)


def collected(state: State, attempt: Attempt, note: str) -> None:
    """The folder of a rank is here; the job goes on until all have come."""
    state.put_attempt(replace(attempt, collected=True, note=note, failures=0, retry_at_s=0.0, problem=""))


def assembled(state: State, event: ev.Assembled, now: float) -> None:
    """The return folder is in place: every rank is over, and the job with them."""
    attempt = state.attempts.get(event.attempt)
    if attempt is None or not has_come(state.ranks(attempt)):
        return
    for rank in state.ranks(attempt):
        if rank.state is JobState.COLLECTING:
            reason = " ".join(filter(None, (rank.ending.reason if rank.ending else "", rank.note)))
            at_fault = fault_of(state.jobs[rank.job], rank)
            end_attempt(state, rank, outcome_of(rank), reason, now, at_fault=at_fault)


def assemble_failed(state: State, event: ev.AssembleFailed, now: float) -> None:
    """Try again later."""
    attempt = state.attempts.get(event.attempt)
    if attempt is not None and attempt.state is JobState.COLLECTING:
        delay(state, attempt, event.sentence, now, PASSING_DELAY_S_MAX)
