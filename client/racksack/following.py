"""Waiting for jobs and following their logs, through broken connections.

Both hang on long polls. When the connection breaks they try again with growing delays, from the offset they had, so no
byte is lost or shown twice; after ten minutes without an answer they give up. The job itself is never touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from racksack.client import LONG_POLL_S, Client
from racksack.errors import UnreachableError, WaitTimeoutError
from racksack.views import JobDetails
from racksack_jobspecs.states import ExitCode, JobState, exit_code

T = TypeVar("T")
GIVE_UP_S = 600.0
_DELAY_S_MAX = 15.0
_PAUSE_S = 0.25  # between two questions that the controller answered at once


class Patience:
    """Repeats a question while the controller cannot be reached, for at most GIVE_UP_S."""

    def __init__(self, on_trouble: Callable[[str], None] = lambda sentence: None, give_up_s: float = GIVE_UP_S) -> None:
        self._on_trouble = on_trouble
        self._give_up_s = give_up_s

    def ask(self, question: Callable[[], T]) -> T:
        """The answer to `question`, however often it takes. Raises UnreachableError after too long."""
        since_s: float | None = None
        delay_s = 0.5
        while True:
            try:
                return question()
            except UnreachableError as error:
                now_s = time.monotonic()
                if since_s is None:
                    since_s = now_s
                    self._on_trouble(f"{error}; retrying")
                if now_s - since_s + delay_s > self._give_up_s:
                    raise
                time.sleep(delay_s)
                delay_s = min(_DELAY_S_MAX, delay_s * 2)


def wait_for(
    client: Client,
    job_ids: Sequence[int],
    *,
    timeout_s: float | None = None,
    any_of: bool = False,
    on_change: Callable[[JobDetails], None] = lambda job: None,
    patience: Patience | None = None,
) -> list[JobDetails]:
    """Wait until all jobs have ended (`any_of`: one of them) and return those that have, in the order given.

    `on_change` hears every state a job is seen in. Raises WaitTimeoutError when the time is over.
    """
    patient = patience or Patience()
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    seen: dict[int, JobDetails] = {}
    pending = list(job_ids)
    while pending and not (any_of and len(pending) < len(job_ids)):
        for job_id in list(pending):
            left_s = _left(deadline_s)
            poll_s = min(LONG_POLL_S, left_s) if len(pending) == 1 or not any_of else 0.0
            job = _next_state(client, job_id, seen.get(job_id), poll_s, patient)
            if job_id not in seen or seen[job_id].state != job.state:
                on_change(job)
            seen[job_id] = job
            if job.is_final:
                pending.remove(job_id)
        if pending and _left(deadline_s) <= 0:
            names = ", ".join(str(job_id) for job_id in pending[:10])
            raise WaitTimeoutError(f"timed out; not ended yet: {names}")
        if pending:
            time.sleep(min(_PAUSE_S, max(0.0, _left(deadline_s))))
    return [seen[job_id] for job_id in job_ids if job_id in seen and seen[job_id].is_final]


def _next_state(client: Client, job_id: int, before: JobDetails | None, poll_s: float, patient: Patience) -> JobDetails:
    if before is None:
        return patient.ask(lambda: client.job(job_id))
    state = before.state
    return patient.ask(lambda: client.job(job_id, seen=state, wait_s=max(0.0, poll_s)))


def _left(deadline_s: float | None) -> float:
    return float("inf") if deadline_s is None else deadline_s - time.monotonic()


def follow_log(
    client: Client,
    job_id: int,
    stream: str,
    *,
    offset: int = 0,
    attempt: int | None = None,
    rank: int | None = None,
    patience: Patience | None = None,
) -> Iterator[bytes]:
    """The bytes of a log as they appear, until the log has ended."""
    patient = patience or Patience()
    at = offset
    while True:
        begun_s = time.monotonic()
        data, following, has_ended = patient.ask(
            lambda at=at: client.log_chunk(job_id, stream, at, attempt=attempt, rank=rank, wait_s=LONG_POLL_S)  # type: ignore[misc]
        )
        at = following
        if data:
            yield data
        elif has_ended:
            return
        elif time.monotonic() - begun_s < _PAUSE_S:
            time.sleep(_PAUSE_S)


def code_of(jobs: Sequence[JobDetails]) -> ExitCode:
    """The exit code for jobs that have ended: of the one job, or of all when they agree; PARTIAL when they differ."""
    codes = {exit_code(JobState(job.state)) for job in jobs}
    if len(codes) == 1:
        return codes.pop()
    return ExitCode.PARTIAL if codes else ExitCode.OK
