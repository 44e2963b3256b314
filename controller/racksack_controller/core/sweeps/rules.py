"""What becomes of a sweep: retries, when it is over, how many runners it needs, and whom it makes room for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from racksack_controller.core.rack.amounts import capacity, could_ever_hold, demand
from racksack_controller.core.records import Job, Node
from racksack_controller.core.state import Attempt, State
from racksack_controller.core.sweeps.records import Failure, Progress
from racksack_jobspecs.states import JobState
from racksack_jobspecs.sweep.spec import Metric, SweepSpec
from racksack_jobspecs.sweep.states import FailureKind

BACKOFF_S_MAX = 3600.0
FAULTS_MAX = 3  # runners in a row that ended badly without a result, before any has come up
FAULTS_MAX_LATER = 20  # afterwards: single points may end their runners, and are found by trying
MISSING_POINTS, MISSING_LEAST, MISSING_AFTER_S = 20, 3, 30.0  # results without the metric that ranks
LOSSES_MIN = 3  # a point alone with its runner is given up when so many were lost with it


def after_failure(
    spec: SweepSpec, point: int, tries: int, kind: str, sentence: str, seconds: float, node: str, now: float
) -> Failure:
    """A point failed for the `tries`-th time: when it is tried again, if it is."""
    retry_at = None
    if tries <= spec.retries:
        retry_at = now + min(BACKOFF_S_MAX, spec.backoff_s * 2.0 ** min(tries - 1, 30))
    return Failure(
        point=point,
        tries=tries,
        kind=kind,
        sentence=sentence,
        seconds=seconds,
        node=node,
        at_s=now,
        retry_at_s=retry_at,
    )


def lost_for_good(spec: SweepSpec, losses: int, points: int) -> bool:
    """Whether points that came back from lost runners so often are given up: only one that was alone."""
    return points == 1 and losses >= max(LOSSES_MIN, spec.retries + 1)


def suspect_points(losses: int, points: int) -> int:
    """How many suspects are tried at once: fewer each time, until the one that ends runners is alone."""
    return max(1, points // 8) if losses > 1 else max(1, points // 2)


def too_many_failed(spec: SweepSpec, progress: Progress) -> str:
    """The sentence for a sweep that ends because too many points failed; empty when it goes on."""
    failed = progress.failed
    if spec.fails_max is not None and failed > spec.fails_max:
        return f"{failed} points failed, more than the {spec.fails_max} that it allows"
    share = spec.fails_share_max
    if share is not None and progress.points and failed > share * progress.points:
        return f"{failed} of {progress.points} points failed, more than the {share:.0%} that it allows"
    return ""


def metric_missing(spec: SweepSpec, progress: Progress, now: float, *, is_complete: bool) -> str:
    """The sentence for a sweep that ends because no point returns what it ranks by; empty when it goes on.

    Some points may lack it, so a few are waited for. A sweep that asked for no metric ranks nothing, which is no fault.
    """
    metric = spec.metrics[0].name
    computed = progress.done - progress.reused
    if metric in progress.metrics or metric == Metric().name or not progress.metrics or computed < 1:
        return ""
    age_s = now - progress.ready_at_s if progress.ready_at_s is not None else 0.0
    if not (is_complete or computed >= MISSING_POINTS or (computed >= MISSING_LEAST and age_s >= MISSING_AFTER_S)):
        return ""
    found = ", ".join(progress.metrics[:8])
    return f"no point returned the metric {metric!r}; they returned {found}"


def ended_badly(progress: Progress, state: JobState, reason: str, was_ready: bool) -> str:
    """The sentence for a sweep whose runners cannot run; empty when another one is tried.

    Not for a runner that could not be prepared for its node's want of something while another node is left.
    """
    if state in (JobState.FAILED, JobState.PREPARE_FAILED) and not was_ready and progress.done == progress.reused:
        return reason
    if progress.faults >= (FAULTS_MAX_LATER if was_ready else FAULTS_MAX):
        return f"{progress.faults} runners in a row ended without a result; last: {reason or state}"
    return ""


def places(draft: Job, nodes: Iterable[Node]) -> int:
    """How many runners the rack could hold if it were empty; nodes that are off count, drained ones do not."""
    wants = demand(draft.spec.resources)
    found = 0
    for node in nodes:
        if node.drain is None and could_ever_hold(draft, node):
            room = capacity(node)
            found += min(have // need for need, have in zip(wants, room, strict=True) if need)
    return found


def runners_wanted(spec: SweepSpec, *, waiting: int, slots: int, rack_places: int, working: int) -> int:
    """How many runner jobs there should be. `working`: those that have points now, which are kept."""
    wanted = min(rack_places, working + math.ceil(waiting / max(1, slots)))
    if spec.runners_max is not None:
        wanted = min(wanted, spec.runners_max)
    return max(wanted, 1 if waiting else 0)


def yields(state: State, draft: Job, runners: Sequence[Attempt], now: float) -> list[str]:
    """The runners that take no more chunks, so that waiting jobs of higher priority can start: one for each."""
    waiting = [
        job
        for job in (state.jobs[job_id] for job_id in state.queued_ids)
        if job.spec.priority > draft.spec.priority and not job.waits_for and job.not_before_s <= now
    ]
    chosen: list[str] = []
    for job in waiting:
        if len(chosen) == len(runners):
            break
        for attempt in runners:
            node = state.nodes.get(attempt.node)
            if attempt.key not in chosen and node is not None and could_ever_hold(job, node):
                chosen.append(attempt.key)
                break
    return chosen


def lost(point: int, losses: int, node: str, now: float) -> Failure:
    """The failure of a point that was alone with each of its last runners."""
    sentence = f"each of the {losses} runners that worked on it was lost"
    return Failure(point=point, tries=losses, kind=FailureKind.LOST, sentence=sentence, node=node, at_s=now)
