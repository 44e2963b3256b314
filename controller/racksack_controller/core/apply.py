"""What an event changes. One function an event; no function asks for anything to be done.

News of an attempt that is not its job's current one never changes the job: the attempt's number is a fence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.clock_jump import clock_jumped
from racksack_controller.core.jobs import checkpoints, gang_apply
from racksack_controller.core.jobs.dependencies import begin, end_in_memory, end_target, finish, settle_more
from racksack_controller.core.jobs.gang import attempts_of, is_over
from racksack_controller.core.jobs.reports import fault_of, is_of, outcome_of, take_report
from racksack_controller.core.jobs.requeue import (
    backoff_s,
    drain_ends,
    end_attempt,
    end_ranks,
    give_up_results,
    grace_of,
    requeue_now,
)
from racksack_controller.core.jobs.retry_later import (
    EFFECT_DELAY_S_MAX,
    PASSING_DELAY_S_MAX,
    delay,
    effect_failed,
)
from racksack_controller.core.placing.transfers import contents_of
from racksack_controller.core.power import apply as power_apply
from racksack_controller.core.power import operator as power_wishes
from racksack_controller.core.records import NOT_CONNECTED_YET
from racksack_controller.core.report import AttemptReport
from racksack_controller.core.state import ArrayProgress, Attempt, Drain, Job, Node, State, Stop
from racksack_jobspecs.states import FINAL, WAITING, JobState
from racksack_jobspecs.units import format_duration

COLLECT_TRIES_MAX = 10  # with growing delays: about seven minutes
START_TRIES_MAX = 8
COOL_S_MAX = 600.0


def apply(state: State, event: ev.Event, now: float) -> None:
    """Change `state` by one event that is known at `now` (Unix seconds)."""
    state.now_s = max(state.now_s, now)
    _HANDLERS[type(event)](state, event, now)


def _job_accepted(state: State, event: ev.JobAccepted, now: float) -> None:
    job = begin(state, event.job, event.past)
    state.tell(now, f"submitted by {job.owner}", job=job.id)
    if job.state in FINAL:
        finish(state, job, now)
    else:
        state.put_job(job)


def _cancel_requested(state: State, event: ev.CancelRequested, now: float) -> None:
    job = state.jobs.get(event.job)
    if job is None or job.state in FINAL:
        return
    if job.state in WAITING:
        finish(state, replace(job, state=JobState.CANCELLED, reason=event.sentence, ended_at_s=now), now)
        return
    if job.state is JobState.COLLECTING:
        _cancel_collecting(state, job, event, now)
        return
    state.tell(now, event.sentence, job=job.id)
    grace_s = grace_of(job) if event.grace_s is None else event.grace_s
    stop = Stop("cancelled", event.sentence, grace_s, event.signal, discard=event.discard)
    end_ranks(state, state.attempts[job.attempt_key], stop, now)


def _cancel_collecting(state: State, job: Job, event: ev.CancelRequested, now: float) -> None:
    """Its program has ended, so only its results are waited for: no more, if they are not wanted or do not come.

    Results that are on their way still come, but however it ended, the job does not run again.
    """
    ranks = state.ranks(state.attempts[job.attempt_key])
    are_given_up = event.discard or event.signal == "KILL" or any(rank.failures for rank in ranks)
    stop = Stop("cancelled", event.sentence, 0.0, "KILL", discard=event.discard)
    for rank in ranks:
        if rank.state is JobState.COLLECTING and are_given_up:
            end_attempt(state, replace(rank, stop=stop), JobState.CANCELLED, event.sentence, now)
        elif rank.state is JobState.COLLECTING:
            state.put_attempt(replace(rank, stop=stop))


def _signalled(state: State, event: ev.Signalled, now: float) -> None:
    if event.job in state.jobs:
        state.tell(now, event.sentence, job=event.job)


def _hold_requested(state: State, event: ev.HoldRequested, now: float) -> None:
    job = state.jobs.get(event.job)
    if job is not None and job.state is JobState.QUEUED:
        state.put_job(replace(job, state=JobState.HELD, reason=event.sentence))
        state.tell(now, event.sentence, job=job.id)


def _release_requested(state: State, event: ev.ReleaseRequested, now: float) -> None:
    job = state.jobs.get(event.job)
    if job is not None and job.state is JobState.HELD:
        state.put_job(replace(job, state=JobState.QUEUED, reason=""))
        state.tell(now, _by("released", event.by), job=job.id)


def _priority_requested(state: State, event: ev.PriorityRequested, now: float) -> None:
    job = state.jobs.get(event.job)
    if job is not None and job.state in WAITING and job.spec.priority != event.priority:
        state.put_job(replace(job, spec=replace(job.spec, priority=event.priority)))
        sentence = f"its priority is {event.priority} instead of {job.spec.priority}"
        state.tell(now, _by(sentence, event.by), job=job.id)


def _by(sentence: str, who: str) -> str:
    return f"{sentence} by {who}" if who else sentence


def _retry_requested(state: State, event: ev.RetryRequested, now: float) -> None:
    old = state.jobs.get(event.job, event.record)
    if old is None:
        raise ev.RefusedError(f"there is no job {event.job} any more")
    if old.state not in FINAL:
        raise ev.RefusedError(f"job {old.id} is {old.state}; only a finished job can be run again")
    fresh = replace(
        old, state=JobState.QUEUED, reason="", ended_at_s=None, retries_used=0, losses=0, preemptions=0, avoid=()
    )
    if not event.from_checkpoint:
        fresh = replace(fresh, checkpoints=())
    job = begin(state, replace(fresh, not_before_s=0.0, fetched=False, waits_for=(), unsatisfiable=False), event.past)
    if job.state in FINAL:
        raise ev.RefusedError(f"job {old.id} will not run: {job.reason}; retry that one too, in the same command")
    if old.array_id is not None and old.array_id not in state.arrays:
        state.put_array(old.array_id, ArrayProgress(0, dict(event.broken)))
    state.put_job(job)
    state.tell(now, f"queued again by {event.by}", job=old.id)


def _dependency_ended(state: State, event: ev.DependencyEnded, now: float) -> None:
    known = {(past.job, past.whole): past for past in event.past if past.outcome is not None}
    for target in event.targets:
        past = known.get(target) or end_in_memory(state, target)
        if past is not None:
            end_target(state, past, drops=not (past.whole and past.job in state.arrays))
    settle_more(state, now)


def _placed(state: State, event: ev.Placed, now: float) -> None:
    job = state.jobs[event.job]
    ranks = attempts_of(state, event, job, now)
    for attempt in ranks:
        state.put_attempt(attempt)
        state.begin_turn(attempt.key, state.rack.part_of(attempt.allocation), now, passes=event.passes)
    state.put_job(replace(job, state=JobState.STAGING, attempt=job.attempt + 1))
    where = ", ".join(attempt.node for attempt in ranks)
    state.tell(now, f"attempt {job.attempt + 1} placed on {where}: {event.why}", job=job.id, node=event.node)


def _preempted(state: State, event: ev.Preempted, now: float) -> None:
    job = state.jobs.get(event.job)
    attempt = state.current(job) if job is not None else None
    if job is None or attempt is None:
        return
    state.tell(now, event.sentence, job=job.id, node=attempt.node)
    if event.by:
        state.put_job(replace(job, preemptions=job.preemptions + 1))
        what = f"job {job.id}, which may be preempted and has a lower priority, is preempted to make room for this one"
        state.tell(now, what, job=event.by, node=attempt.node)
    requeue_now(state, attempt, event.sentence, now, for_job=event.by, warns=True)


def _node_configured(state: State, event: ev.NodeConfigured, now: float) -> None:
    new, old = event.node, state.nodes.get(event.node.name)
    if old is not None:
        new = replace(
            old,
            kind=new.kind,
            reserve=new.reserve,
            max_jobs=new.max_jobs,
            labels=new.labels,
            partitions=new.partitions,
            address=new.address,
            overflow=new.overflow,
            inventory=new.inventory or old.inventory,
        )
        if old.is_removed or (old.drain is not None and old.drain.reason == _taken_out(old.name)):
            new = replace(new, drain=old.drain.before if old.drain else None, connection_reason=NOT_CONNECTED_YET)
            state.tell(now, f"{old.name} was added to the configuration again", node=old.name)
    if new != old:
        state.put_node(new)


def _taken_out(name: str) -> str:
    return f"{name} was removed from the configuration"


def _node_removed(state: State, event: ev.NodeRemoved, now: float) -> None:
    node = state.nodes[event.node]
    sentence = _taken_out(node.name)
    for attempt in state.on_node(node.name):
        _lose(state, attempt, sentence, now)
    if not node.is_removed:
        node = replace(node, drain=Drain(sentence, now, is_removed=True, before=node.drain))
    state.put_node(replace(node, connected=False, connection_reason=sentence))
    state.drop_power(node.name)
    state.tell(now, sentence, node=node.name)


def _node_connected(state: State, event: ev.NodeConnected, now: float) -> None:
    node = state.nodes[event.node]
    rebooted = bool(node.boot_id) and node.boot_id != event.boot_id
    state.put_node(
        replace(
            node,
            connected=True,
            connection_reason="",
            connection_since_s=now,
            boot_id=event.boot_id,
            inventory=event.inventory,
        )
    )
    state.tell(now, "connected after a restart" if rebooted else "connected", node=node.name)
    power_apply.came_up(state, node.name, now, rebooted=node.boot_id != event.boot_id)
    power_apply.note_boot(state, node, event.up_s, now, is_new=node.boot_id != event.boot_id)
    state.contents.set(node.name, event.contents)
    for key in [key for key in state.orphans if key[0] == node.name]:
        state.drop_orphan(*key)
    _forget_what_was_sent(state, node.name)
    for report in event.reports:
        take_report(state, node.name, report, now)
    _lose_the_missing(state, node.name, {report.attempt: report for report in event.reports}, now)


def _gpus_seen(state: State, event: ev.GpusSeen, now: float) -> None:
    """Other devices than before, or others set aside; jobs that hold one of those go on, and are told."""
    node = state.nodes[event.node]
    if node.inventory is None or not node.connected:
        return
    before = {gpu.uuid: gpu.fault for gpu in node.inventory.set_aside}
    inventory = replace(node.inventory, gpus=event.gpus, set_aside=event.set_aside, problems=event.problems)
    state.put_node(replace(node, inventory=inventory))
    for gpu in event.set_aside:
        if before.get(gpu.uuid) != gpu.fault:
            state.tell(now, f"{gpu.sentence}; it is set aside", node=node.name)
            for attempt in state.on_node(node.name):
                if gpu.uuid in attempt.allocation.gpus:
                    state.tell(now, f"{gpu.sentence}; this job holds it", job=attempt.job)
    for well in event.gpus:
        if well.uuid in before:
            state.tell(now, f"GPU {well.index} ({well.model}) is used again", node=node.name)


def _forget_what_was_sent(state: State, node: str) -> None:
    """A new connection may have lost what the old one was asked, so everything is asked again at once."""
    for attempt in state.attempts_on(node):
        stop = replace(attempt.stop, sent=False) if attempt.stop else None
        state.put_attempt(replace(attempt, stop=stop, go_sent=False, retry_at_s=0.0, failures=0))


def _lose_the_missing(state: State, node: str, reports: Mapping[str, AttemptReport], now: float) -> None:
    """What the node does not know is lost. Results that are being collected may be here already: `Collect` looks."""
    for attempt in state.on_node(node):
        if not _is_among(attempt, reports) and attempt.launched and attempt.state is not JobState.COLLECTING:
            _lose(state, attempt, f"{node} knows nothing of attempt {attempt.key}", now)
    for attempt in [a for a in state.attempts_on(node) if a.state in FINAL]:
        if not _is_among(attempt, reports) and is_over(state.ranks(attempt)):
            state.put_attempt(replace(attempt, removed=True))


def _is_among(attempt: Attempt, reports: Mapping[str, AttemptReport]) -> bool:
    return attempt.key in reports and is_of(attempt, attempt.node, reports[attempt.key])


def _node_disconnected(state: State, event: ev.NodeDisconnected, now: float) -> None:
    node = state.nodes[event.node]
    since = now if node.connected or not node.connection_since_s else node.connection_since_s
    if node.connected:
        state.tell(now, event.sentence, node=node.name)
    if node.connected or node.connection_reason != event.sentence or since != node.connection_since_s:
        state.put_node(replace(node, connected=False, connection_reason=event.sentence, connection_since_s=since))


def _drain_requested(state: State, event: ev.DrainRequested, now: float) -> None:
    node = state.nodes[event.node]
    deadline_at_s = None if event.deadline_s is None else now + event.deadline_s
    state.put_node(replace(node, drain=Drain(event.reason, now, deadline_at_s, event.then_off)))
    until = f"; its jobs have {format_duration(event.deadline_s)}" if event.deadline_s is not None else ""
    state.tell(now, f"drained: {event.reason}{until}", node=node.name)
    if event.now:
        for attempt in state.on_node(node.name):
            requeue_now(state, attempt, f"{node.name} is drained: {event.reason}", now)


def end_drains(state: State, now: float) -> None:
    """Queue again what still runs on drained nodes whose deadline has passed; who wants a warning has it before."""
    for name, attempt, at_s in drain_ends(state):
        if at_s <= now:
            requeue_now(state, attempt, f"{name} was drained and its deadline has passed", now, warns=True)


def _resume_requested(state: State, event: ev.ResumeRequested, now: float) -> None:
    node = state.nodes[event.node]
    state.put_node(replace(node, drain=None, failures=0, cool_until_s=0.0))
    state.tell(now, _by("resumed", event.by), node=node.name)


def _launched(state: State, event: ev.Launched, now: float) -> None:
    attempt = state.attempts.get(event.attempt)
    if attempt is None or attempt.launched:
        return
    state.put_attempt(replace(attempt, launched=True, failures=0, problem=""))
    job = state.jobs.get(attempt.job)
    if job is not None:
        state.contents.add(attempt.node, contents_of(job))
    node = state.nodes[attempt.node]
    if node.failures:
        state.put_node(replace(node, failures=0, cool_until_s=0.0))


def _transferred(state: State, event: ev.Transferred, now: float) -> None:
    del now
    state.contents.note_rate(event.node, event.size_bytes, event.seconds)


def _start_failed(state: State, event: ev.StartFailed, now: float) -> None:
    attempt = state.attempts.get(event.attempt)
    if attempt is None or attempt.state is not JobState.STAGING or attempt.launched:
        return
    if event.fault == "controller" and attempt.failures < START_TRIES_MAX:
        delay(state, attempt, event.sentence, now)
        return
    fault = "node" if event.fault == "controller" else event.fault  # another node may do better
    if fault == "node":
        _cool(state, state.nodes[attempt.node], event.sentence, now)
    end_attempt(state, attempt, JobState.STAGE_FAILED, event.sentence, now, at_fault=fault)


def _cool(state: State, node: Node, sentence: str, now: float) -> None:
    """A node at which starts fail takes no jobs for a growing time, so that it cannot eat the queue."""
    failures = node.failures + 1
    delay = backoff_s(failures, first_s=5.0, most_s=COOL_S_MAX)
    state.put_node(replace(node, failures=failures, cool_until_s=now + delay))
    state.tell(now, f"takes no jobs for {delay:.0f} s: {sentence}", node=node.name)


def _reported(state: State, event: ev.Reported, now: float) -> None:
    take_report(state, event.node, event.report, now)


def _lose(state: State, attempt: Attempt, sentence: str, now: float) -> None:
    if attempt.collected:
        return  # of a gang: what is wanted of its node is here already
    end_attempt(state, attempt, JobState.LOST, sentence, now, at_fault="node")


def _stop_sent(state: State, event: ev.StopSent, now: float) -> None:
    where = (event.node, event.attempt)
    if where in state.orphans:
        state.put_orphan(*where, replace(state.orphans[where], stop_sent=True, failures=0))
        if state.orphans[where].is_unreadable:
            _remove_next(state, where)
    attempt = state.attempts.get(event.attempt)
    if attempt is not None and attempt.stop is not None and attempt.node == event.node:
        state.put_attempt(replace(attempt, stop=replace(attempt.stop, sent=True), failures=0, problem=""))


def _remove_next(state: State, where: tuple[str, str]) -> None:
    """The node was told to end it and cannot say that it did: it is removed as soon as the node lets it be."""
    node, key = where
    attempt = state.attempts.get(key)
    if attempt is not None and attempt.node == node:
        state.drop_orphan(node, key)
    else:
        state.put_orphan(node, key, replace(state.orphans[where], running=False))


def _stop_failed(state: State, event: ev.StopFailed, now: float) -> None:
    effect_failed(state, event.node, event.attempt, event.sentence, now)


def _collected(state: State, event: ev.Collected, now: float) -> None:
    attempt = state.attempts.get(event.attempt)
    if attempt is None or attempt.state is not JobState.COLLECTING:
        return
    if attempt.ranks > 1:
        gang_apply.collected(state, attempt, event.note)
        return
    ending = attempt.ending
    reason = " ".join(part for part in (ending.reason if ending else "", event.note) if part)
    at_fault = fault_of(state.jobs[attempt.job], attempt)
    end_attempt(state, attempt, outcome_of(attempt), reason, now, at_fault=at_fault)


def _collect_failed(state: State, event: ev.CollectFailed, now: float) -> None:
    attempt = state.attempts.get(event.attempt)
    if attempt is None or attempt.state is not JobState.COLLECTING:
        return
    if event.gone or (event.counts and attempt.failures >= COLLECT_TRIES_MAX):
        give_up_results(state, attempt, event.sentence, now)
    else:
        delay(state, attempt, event.sentence, now, EFFECT_DELAY_S_MAX if event.counts else PASSING_DELAY_S_MAX)


def _removed(state: State, event: ev.Removed, now: float) -> None:
    orphan = state.drop_orphan(event.node, event.attempt)
    attempt = state.attempts.get(event.attempt)
    if attempt is not None and attempt.node == event.node and (orphan is None or orphan.epoch == attempt.epoch):
        state.put_attempt(replace(attempt, removed=True))


def _remove_failed(state: State, event: ev.RemoveFailed, now: float) -> None:
    effect_failed(state, event.node, event.attempt, event.sentence, now)


LOGIN_AWAY_S = 2 * 86400.0  # a cluster whose login node is away, for maintenance as a rule, runs its jobs all the same


def lose_unreachable(state: State, now: float, lost_after_s: float) -> None:
    """Give up the attempts on nodes that have not answered for `lost_after_s`; their jobs run elsewhere."""
    for node in [state.nodes[name] for name in sorted(state.silent)]:
        patience_s = lost_after_s if node.overflow is None else max(lost_after_s, LOGIN_AWAY_S)
        if _silent_s(node, now) < patience_s:
            continue
        for attempt in state.on_node(node.name):
            _lose(state, attempt, f"{node.name} has not answered for {patience_s:.0f} s", now)


def _silent_s(node: Node, now: float) -> float:
    """For how long a node has not answered; 0 for one that was not called since the controller's start."""
    return now - node.connection_since_s if node.connection_since_s else 0.0


def requeue_unstaged(state: State, now: float, patience_s: float) -> None:
    """Take back jobs that were about to be sent to a node which does not answer any more."""
    for node in [state.nodes[name] for name in sorted(state.silent)]:
        if _silent_s(node, now) < patience_s:
            continue
        for attempt in [a for a in state.on_node(node.name) if a.state is JobState.STAGING and not a.launched]:
            sentence = f"{node.name} stopped answering before the job was there"
            end_attempt(state, attempt, JobState.LOST, sentence, now, at_fault="none")


def _clock_jumped(state: State, event: ev.ClockJumped, now: float) -> None:
    clock_jumped(state, event.by_s, now)


Handler = Callable[[State, Any, float], None]
_HANDLERS: dict[type[ev.Event], Handler] = {
    ev.ClockJumped: _clock_jumped,
    ev.JobAccepted: _job_accepted,
    ev.CancelRequested: _cancel_requested,
    ev.Signalled: _signalled,
    ev.HoldRequested: _hold_requested,
    ev.ReleaseRequested: _release_requested,
    ev.PriorityRequested: _priority_requested,
    ev.RetryRequested: _retry_requested,
    ev.DependencyEnded: _dependency_ended,
    ev.Placed: _placed,
    ev.Preempted: _preempted,
    ev.NodeConfigured: _node_configured,
    ev.NodeRemoved: _node_removed,
    ev.NodeConnected: _node_connected,
    ev.GpusSeen: _gpus_seen,
    ev.NodeDisconnected: _node_disconnected,
    ev.DrainRequested: _drain_requested,
    ev.ResumeRequested: _resume_requested,
    ev.Launched: _launched,
    ev.Transferred: _transferred,
    ev.StartFailed: _start_failed,
    ev.Reported: _reported,
    ev.GoSent: gang_apply.go_sent,
    ev.GoFailed: gang_apply.go_failed,
    ev.Assembled: gang_apply.assembled,
    ev.AssembleFailed: gang_apply.assemble_failed,
    ev.CheckpointBrought: checkpoints.brought,
    ev.CheckpointFailed: checkpoints.failed,
    ev.CheckpointDamaged: checkpoints.damaged,
    ev.StopSent: _stop_sent,
    ev.StopFailed: _stop_failed,
    ev.Collected: _collected,
    ev.CollectFailed: _collect_failed,
    ev.Removed: _removed,
    ev.RemoveFailed: _remove_failed,
    **power_apply.HANDLERS,
    **power_wishes.HANDLERS,
}
