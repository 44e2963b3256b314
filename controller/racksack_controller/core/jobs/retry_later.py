"""Asking again later, with growing delays, for what could not be done."""

from __future__ import annotations

from msgspec.structs import replace

from racksack_controller.core.jobs.requeue import backoff_s
from racksack_controller.core.state import Attempt, State

EFFECT_DELAY_S_MAX = 60.0
PASSING_DELAY_S_MAX = 5.0  # for what costs little to try and may be over at any moment: a full disk of the controller


def delay(state: State, attempt: Attempt, sentence: str, now: float, most_s: float = EFFECT_DELAY_S_MAX) -> None:
    """Leave an attempt alone for a while, `most_s` seconds at most; `sentence` says what failed."""
    failures = attempt.failures + 1
    retry_at = now + backoff_s(failures, first_s=1.0, most_s=most_s)
    state.put_attempt(replace(attempt, failures=failures, retry_at_s=retry_at, problem=sentence))
    if attempt.problem != sentence:
        state.tell(now, sentence, job=attempt.job, node=attempt.node)


def effect_failed(state: State, node: str, key: str, sentence: str, now: float) -> None:
    """A node did not do what it was asked about an attempt."""
    orphan = state.orphans.get((node, key))
    if orphan is not None:
        failures = orphan.failures + 1
        retry_at = now + backoff_s(failures, first_s=1.0, most_s=EFFECT_DELAY_S_MAX)
        state.put_orphan(node, key, replace(orphan, failures=failures, retry_at_s=retry_at))
    attempt = state.attempts.get(key)
    if attempt is not None and attempt.node == node:
        delay(state, attempt, sentence, now)
