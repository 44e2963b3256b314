"""Jobs that get no further: those that no node could ever run, and those that something fails for again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from racksack_controller.core.jobs.gang import named
from racksack_controller.core.queue.job_queue import class_of
from racksack_controller.core.state import Attempt, Job, State
from racksack_controller.core.why import never
from racksack_jobspecs.findings import Finding, failed, not_looked_at, ok, warning
from racksack_jobspecs.states import ACTIVE, JobState
from racksack_jobspecs.units import format_duration

WAITING_MAX = 5000
TURN = 100  # jobs that are looked at before everything else gets a turn
SHOWN_MAX = 5


async def look_at_waiting(state: State) -> list[Finding]:
    """The waiting jobs that can never run, a finding for each reason."""
    waiting = list(state.queued_ids)
    reasons: dict[object, str | None] = {}  # of jobs that ask for the same
    hopeless: dict[str, list[int]] = {}
    for at, number in enumerate(waiting[:WAITING_MAX]):
        if at % TURN == TURN - 1:
            await asyncio.sleep(0)
        job = state.jobs.get(number)
        if job is None or job.state is not JobState.QUEUED:
            continue  # it has gone on meanwhile
        reason = _reason(job, state, reasons)
        if reason is not None:
            hopeless.setdefault(reason, []).append(number)
    found = [_never(reason, jobs) for reason, jobs in hopeless.items()]
    if len(waiting) > WAITING_MAX:
        found.append(not_looked_at("waiting", f"only the first {WAITING_MAX} of {len(waiting)} waiting jobs"))
    count = "no job is waiting" if not waiting else f"{len(waiting)} waiting; each could run on some node"
    return found or [ok("waiting", count)]


def _reason(job: Job, state: State, known: dict[object, str | None]) -> str | None:
    job_class = class_of(job)
    asks_for = (job_class.need, job_class.kind, job_class.admission, job_class.gang)
    if asks_for not in known:
        known[asks_for] = never(job, state.nodes.values())
    return known[asks_for]


def _never(reason: str, jobs: list[int]) -> Finding:
    remedy = "cancel it" if len(jobs) == 1 else "cancel them"
    return failed("waiting", f"{_numbers(jobs)} can never run: {reason}; {remedy}, or add such a node")


def _numbers(jobs: list[int]) -> str:
    shown = ", ".join(map(str, jobs[:SHOWN_MAX]))
    more = f" and {len(jobs) - SHOWN_MAX} more" if len(jobs) > SHOWN_MAX else ""
    return f"job {shown}" if len(jobs) == 1 else f"jobs {shown}{more}"


def look_at_active(attempts: Mapping[str, Attempt], now: float) -> list[Finding]:
    """The results that could not be stored, and the starts that failed; they are tried again by themselves."""
    stuck = [attempt for attempt in attempts.values() if attempt.problem and attempt.state in ACTIVE]
    results = [attempt for attempt in stuck if attempt.state is JobState.COLLECTING]
    starts = [attempt for attempt in stuck if attempt.state is not JobState.COLLECTING]
    found = [failed("results", f"of {_stuck(attempt, now)}") for attempt in results[:SHOWN_MAX]]
    if len(results) > SHOWN_MAX:
        found.append(failed("results", f"of {len(results) - SHOWN_MAX} more jobs cannot be stored"))
    found = found or [ok("results", "none is waiting to be stored after a failure")]
    found += [warning("start", f"of {_stuck(attempt, now)}") for attempt in starts[:SHOWN_MAX]]
    return found


def _stuck(attempt: Attempt, now: float) -> str:
    again = f"again in {format_duration(attempt.retry_at_s - now)}" if attempt.retry_at_s > now else "again just now"
    times = "once" if attempt.failures == 1 else f"{attempt.failures} times"
    problem = named(attempt, attempt.problem).rstrip(".")
    return f"job {attempt.job} on {attempt.node}: {problem}; failed {times}, retried {again}; nothing is lost meanwhile"
