"""What a node's report about an attempt changes."""

from __future__ import annotations

from msgspec.structs import replace

from racksack_controller.core.jobs.checkpoints import take_saved
from racksack_controller.core.jobs.gang import job_state
from racksack_controller.core.jobs.requeue import end_attempt, end_others
from racksack_controller.core.report import AttemptReport, ReportState
from racksack_controller.core.state import Attempt, Ending, Job, Orphan, State
from racksack_jobspecs.states import FINAL, JobState
from racksack_jobspecs.units import format_memory


def take_report(state: State, node: str, report: AttemptReport, now: float) -> None:
    """Believe a report about a job's current attempt; any other is of an attempt that is not to run."""
    attempt = state.attempts.get(report.attempt)
    is_ours = attempt is not None and is_of(attempt, node, report)
    if attempt is None or not is_ours or attempt.state in FINAL:
        _take_orphan(state, node, report, ended_here=is_ours)
        return
    attempt = take_saved(state, attempt, report, now)
    if report.state is ReportState.UNREADABLE:
        _give_up_unreadable(state, attempt, report, now)
        return
    new = _STATES[report.state]
    newly_prepared = report.state is ReportState.PREPARED and not attempt.prepared
    if attempt.state is JobState.COLLECTING and report.outcome == JobState.LOST and attempt.ending is not None:
        if attempt.ending.outcome is not JobState.LOST:  # after a power cut the node finds its outputs damaged
            state.put_attempt(replace(attempt, ending=_ending(attempt, report)))
            state.tell(now, f"its results on {node} are damaged: {report.reason}", job=attempt.job)
        return
    if attempt.state is JobState.COLLECTING or (new is attempt.state and not newly_prepared):
        _note_wait(state, attempt, report)
        return
    if (attempt.state, new) == (JobState.RUNNING, JobState.PREPARING):
        return
    prepared = attempt.prepared or newly_prepared
    changed = replace(attempt, state=new, launched=True, prepared=prepared, failures=0, retry_at_s=0.0, problem="")
    if new is JobState.PREPARING:
        changed = replace(changed, problem=report.reason)
    if new is JobState.RUNNING:
        changed = replace(changed, started_at_s=min(report.started_at_s or now, now))  # its clock may be ahead
    if new is JobState.COLLECTING:
        changed = replace(changed, ending=_ending(attempt, report), started_at_s=report.started_at_s)
        who = f"rank {attempt.rank} " if attempt.ranks > 1 else ""
        state.tell(now, f"{who}ended on {node}: {_told(changed.ending)}", job=attempt.job)
    state.put_attempt(changed)
    _follow(state, changed, now)


def _note_wait(state: State, attempt: Attempt, report: AttemptReport) -> None:
    """What an attempt waits for that the node has but has not begun: in the queue of a cluster."""
    if report.state is ReportState.PREPARING and report.reason != attempt.problem and not attempt.failures:
        state.put_attempt(replace(attempt, problem=report.reason, launched=True))


def is_of(attempt: Attempt, node: str, report: AttemptReport) -> bool:
    """Whether a node's report is about this attempt, and not about one of the same number that another store placed.

    Of a damaged record the epoch is not known, but that attempt is lost in any case.
    """
    return attempt.node == node and report.epoch in (attempt.epoch, None)


def _follow(state: State, attempt: Attempt, now: float) -> None:
    """What the new state of an attempt means for its job, and for the other ranks of its gang."""
    job, ranks = state.jobs[attempt.job], state.ranks(attempt)
    if attempt.ending is not None and attempt.rank == 0:
        state.learn(job, attempt.ending)
    now_in = job_state(ranks)
    if now_in is not job.state:
        state.put_job(replace(job, state=now_in))
        if now_in is JobState.RUNNING:
            state.tell(now, f"running on {', '.join(rank.node for rank in ranks)}", job=job.id)
    if attempt.ranks > 1 and attempt.ending is not None and attempt.ending.outcome is not JobState.DONE:
        end_others(state, attempt, f"{attempt.ending.outcome}: {attempt.ending.reason}".removesuffix(": "), now)


_STATES = {
    ReportState.PREPARING: JobState.PREPARING,
    ReportState.PREPARED: JobState.PREPARING,
    ReportState.RUNNING: JobState.RUNNING,
    ReportState.ENDED: JobState.COLLECTING,
}


def _give_up_unreadable(state: State, attempt: Attempt, report: AttemptReport, now: float) -> None:
    """The node has it but says nonsense about it: the job runs elsewhere, and what is here is stopped and removed."""
    if attempt.state is JobState.COLLECTING or attempt.collected:
        return  # how it ended is known
    end_attempt(state, attempt, JobState.LOST, report.reason, now, at_fault="node")
    state.put_orphan(attempt.node, attempt.key, Orphan(running=True, is_unreadable=True))


def _take_orphan(state: State, node: str, report: AttemptReport, *, ended_here: bool) -> None:
    """Note an attempt that is not to run; one that has ended and is ours is removed as any other."""
    unreadable = report.state is ReportState.UNREADABLE
    running = report.state is not ReportState.ENDED
    if not running and ended_here:
        state.drop_orphan(node, report.attempt)
        return
    known = state.orphans.get((node, report.attempt))
    if known is None or (known.running != running and not unreadable):
        state.put_orphan(node, report.attempt, Orphan(running, report.epoch or "", is_unreadable=unreadable))


def _told(ending: Ending | None) -> str:
    if ending is None:
        return "unknown"
    peak = f", peak memory {format_memory(ending.ram_peak_bytes)}" if ending.ram_peak_bytes else ""
    code = f" (exit code {ending.exit_code})" if ending.exit_code else ""
    return f"{ending.outcome}{code}{peak}{': ' + ending.reason if ending.reason else ''}"


def _ending(attempt: Attempt, report: AttemptReport) -> Ending:
    outcome = report.outcome or JobState.LOST
    was_asked = outcome is JobState.CANCELLED and attempt.stop is not None
    comes_back = attempt.stop is None or not attempt.stop.discard
    return Ending(
        outcome=outcome,
        reason=attempt.stop.sentence
        if was_asked and attempt.stop
        else report.reason,  # who and why; a node knows neither
        exit_code=report.exit_code,
        signal=report.signal,
        started_at_s=report.started_at_s,
        ended_at_s=report.ended_at_s,
        prepare_s=report.prepare_s,
        ram_peak_bytes=report.ram_peak_bytes,
        cpu_s=report.cpu_s,
        output_bytes=report.output_bytes if comes_back else 0,
        output_files=report.output_files if comes_back else 0,
        gpu_uuids=report.gpu_uuids or attempt.allocation.gpus,
        dropped=report.dropped,
        left=report.left if comes_back else (),
        left_files=report.left_files if comes_back else 0,
        left_bytes=report.left_bytes if comes_back else 0,
        left_for_s=report.left_for_s,
        at_fault=report.at_fault,
    )


def outcome_of(attempt: Attempt) -> JobState:
    """How an attempt's program ended; lost when its node has not said."""
    return attempt.ending.outcome if attempt.ending else JobState.LOST


def fault_of(job: Job, attempt: Attempt) -> str:
    """Whose fault an end is that a node reported: job, or node, and then the job runs elsewhere. A sweep deals itself
    with a node on which its runners cannot be prepared.
    """
    outcome = outcome_of(attempt)
    if outcome is JobState.PREPARE_FAILED and attempt.ending is not None and job.spec.runner_of is None:
        return attempt.ending.at_fault
    return "node" if outcome is JobState.LOST else "job"
