"""What jobs wait for: other jobs, whole arrays, single elements, sweeps.

Whether a dependency is met is judged where the state changes and nowhere else: an answer from before would be of
another state. A job whose dependency can never be met any more is cancelled, with the reason; so are those behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Literal

from msgspec.structs import replace

from racksack_controller.core.records import Job, Past, Unsettled, Wait
from racksack_controller.core.state import State
from racksack_jobspecs.dependency import SINGLETON
from racksack_jobspecs.states import FINAL, WAITING, JobState

JUDGED_MAX = 500  # dependents that are judged in one go
Verdict = Literal["waits", "met", "never"]


def targets_of(state: State, job: Job) -> list[tuple[int, bool]]:
    """The targets of a job's dependencies that are not in memory, so that the store has to be asked for them."""
    waits = dict.fromkeys((*job.after, *job.waits_for))
    return [wait.target for wait in waits if wait.condition != SINGLETON and not _is_known(state, wait)]


def begin(state: State, job: Job, past: Sequence[Past]) -> Job:
    """The job as it waits from now on for all that it depends on, or cancelled because that can never be.

    `past` is what the store knows of targets that are not in memory.
    """
    wanted: list[Wait] = []
    for wait in job.after or job.waits_for:
        wanted += _earlier(state, job) if wait.condition == SINGLETON else [wait]
    return settle(state, replace(job, waits_for=tuple(dict.fromkeys(wanted))), past)


def settle(state: State, job: Job, past: Sequence[Past] = ()) -> Job:
    """The job without the dependencies that are met; cancelled if one of them can never be met."""
    known = {(one.job, one.whole): one for one in past}
    left = []
    for wait in job.waits_for:
        verdict, sentence = _judge(state, wait, known.get(wait.target))
        if verdict == "never":
            return replace(job, state=JobState.CANCELLED, reason=sentence, ended_at_s=state.now_s, unsatisfiable=True)
        if verdict == "waits":
            left.append(wait)
    return replace(job, waits_for=tuple(left)) if len(left) < len(job.waits_for) else job


def finish(state: State, job: Job, now: float) -> None:
    """Store a job's final record, and let those that wait for it go on or end."""
    _end(state, job, now)
    settle_more(state, now)


def _end(state: State, job: Job, now: float) -> None:
    """Store a job's final record, and note for whose dependents that may change something."""
    state.put_job(job)
    state.tell(now, f"{job.state}: {job.reason}" if job.reason else str(job.state), job=job.id)
    end_target(state, Past(job.id, False, job.state, called(state, job.id)))
    if job.array_id is None:
        return
    array = state.arrays[job.array_id]
    if not array.live or (len(array.broken) == 1 and job.id in array.broken):
        outcome, culprit = _outcome(state, Wait(job.array_id, "ok", True), None)
        end_target(state, Past(job.array_id, True, outcome, culprit), drops=not array.live)


def end_target(state: State, past: Past, *, drops: bool = True) -> None:
    """The dependents of a target are to be judged; `drops`: once for all, since it is over."""
    target = (past.job, past.whole)
    if state.dependents.get(target):
        state.journal.assign(state.unsettled, target, Unsettled(past, drops))


def end_in_memory(state: State, target: tuple[int, bool]) -> Past | None:
    """What became of a target that is in memory; None while that is open, or when it is not there."""
    number, whole = target
    if not _is_known(state, Wait(number, "ok", whole)):
        return None
    outcome, culprit = _outcome(state, Wait(number, "ok", whole), None)
    return Past(number, whole, outcome, culprit) if outcome is not None else None


def settle_more(state: State, now: float) -> None:
    """Judge dependents of what has ended, so many in one go: a chain of 50,000 must not hold up everybody's jobs.

    The next step goes on with the others. Should the controller end before that, its start judges all of them again.
    """
    left = JUDGED_MAX
    while state.unsettled and left > 0:
        target, rest = next(iter(state.unsettled.items()))
        numbers = nsmallest(left, (one for one in state.dependents.get(target, ()) if one > rest.judged_to))
        for number in numbers:
            for ended in settle_all(state, [number], now, (rest.past,)):
                _end(state, ended, now)
        if len(numbers) == left:
            state.journal.assign(state.unsettled, target, replace(rest, judged_to=numbers[-1]))
        else:
            state.journal.drop(state.unsettled, target)
            if rest.drops:
                state.drop_dependents(target)
        left -= len(numbers)


def settle_all(state: State, jobs: Iterable[int], now: float, past: Sequence[Past] = ()) -> list[Job]:
    """Judge waiting jobs again and store those that may go on; gives those that have ended, yet to be stored."""
    ended = []
    for number in jobs:
        job = state.jobs.get(number)
        if job is None or job.state not in WAITING:
            continue
        new = settle(state, job, past)
        if new.state in FINAL:
            ended.append(replace(new, ended_at_s=now))
        elif new is not job:
            state.put_job(new)
    return ended


def _earlier(state: State, job: Job) -> list[Wait]:
    """What a singleton waits for: all others of its owner and name that are not over. An array is one job here."""
    first = state.jobs.get(job.array_id) if job.array_id is not None else None
    if first is not None and first.id != job.id and first.state in WAITING and first.after == job.after:
        return list(first.waits_for)  # worked out for the first element, in the same step
    same = [
        other
        for other in state.jobs.values()
        if other.owner == job.owner
        and other.spec.name == job.spec.name
        and other.id != job.id
        and other.state not in FINAL
        and other.spec.runner_of is None
        and (job.array_id is None or other.array_id != job.array_id)
    ]
    return [Wait(other.array_id or other.id, "any", other.array_id is not None) for other in same]


def _is_known(state: State, wait: Wait) -> bool:
    return wait.job in state.arrays if wait.whole else wait.job in state.jobs


def _judge(state: State, wait: Wait, past: Past | None) -> tuple[Verdict, str]:
    """Whether a dependency is met, may be, or never will be; with the sentence of the last."""
    outcome, culprit = _outcome(state, wait, past)
    if wait.condition == "any" or outcome is None:
        return ("waits" if outcome is None else "met"), ""
    is_done = outcome is JobState.DONE
    if is_done == (wait.condition == "ok"):
        return "met", ""
    said = f"{culprit}, which it waits for, ended as {outcome}"
    return "never", f"its dependency can never be met: {said} (after{wait.condition})"


def _outcome(state: State, wait: Wait, past: Past | None) -> tuple[JobState | None, str]:
    """How the target ended, None while that is open; and what the sentence calls it."""
    if wait.whole and wait.job in state.arrays:
        array = state.arrays[wait.job]
        broken = next(iter(array.broken), None)
        if broken is not None and (wait.condition == "ok" or not array.live):
            return array.broken[broken], f"{called(state, broken)} of array {wait.job}"
        return (None if array.live else JobState.DONE), f"array {wait.job}"
    if not wait.whole and wait.job in state.jobs:
        job = state.jobs[wait.job]
        return (job.state if job.state in FINAL else None), called(state, job.id)
    if past is None:
        return None, ""
    return past.outcome, past.called or (f"array {wait.job}" if wait.whole else f"job {wait.job}")


def called(state: State, number: int) -> str:
    """`job 41`, or `15[3]` of an element of an array."""
    job = state.jobs.get(number)
    if job is None or job.array_id is None:
        return f"job {number}"
    return f"{job.array_id}[{job.array_index}]"


_IS_MET = {"ok": "is done", "any": "has ended", "notok": "has failed"}


def waits_sentence(state: State, job: Job) -> str:
    """What a job waits for, such as `after job 41 is done (it is running) and array 15 has ended (3 to go)`."""
    said = [_waits_for(state, wait) for wait in job.waits_for[:3]]
    more = len(job.waits_for) - len(said)
    return "after " + ", ".join(said) + (f" and {more} more" if more else "")


def _waits_for(state: State, wait: Wait) -> str:
    if wait.whole:
        array = state.arrays.get(wait.job)
        left = f" ({array.live} of its elements to go)" if array is not None else ""
        return f"array {wait.job} {_IS_MET[wait.condition]}{left}"
    other = state.jobs.get(wait.job)
    if other is None:
        return f"sweep {wait.job} {_IS_MET[wait.condition]}"
    return f"{called(state, wait.job)} {_IS_MET[wait.condition]} (it is {other.state})"
