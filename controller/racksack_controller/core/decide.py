"""What to do next: a function of (state, time). It looks at levels, not edges.

Called twice it asks for the same; called after a restart it carries on; with an event missing it is late, not wrong.
`schedule` gives the placements, which are saved before anything is done; `decide` gives what to ask of the nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

from racksack_controller.core.actions import Action, Collect, Remove, Start, StopAttempt
from racksack_controller.core.state import Attempt, Node, State, Stop
from racksack_jobspecs.states import FINAL, JobState


def decide(state: State, now: float) -> list[Action]:
    """Everything that is to be under way at `now`."""
    return [*_about_attempts(state, now), *_about_orphans(state, now)]


def _about_attempts(state: State, now: float) -> Iterator[Action]:
    for attempt in state.attempts.values():
        node = state.nodes[attempt.node]
        if node.connected and attempt.retry_at_s <= now:
            action = _next_step(state, attempt, node)
            if action is not None:
                yield action


def _next_step(state: State, attempt: Attempt, node: Node) -> Action | None:
    if attempt.state in FINAL:
        waits_for_its_end = (node.name, attempt.key) in state.orphans
        return None if waits_for_its_end else Remove(node.name, attempt.key)
    if attempt.state is JobState.COLLECTING:
        return Collect(node.name, attempt.key)
    if attempt.stop is not None:
        return None if attempt.stop.sent else StopAttempt(node.name, attempt.key, attempt.stop)
    if attempt.state is JobState.STAGING and not attempt.launched:
        return Start(node.name, attempt.key)
    return None


def _about_orphans(state: State, now: float) -> Iterator[Action]:
    """Attempts that a node has and we do not: left from a partition, or of a job that went elsewhere."""
    for (node, attempt), orphan in state.orphans.items():
        if not state.nodes[node].connected or orphan.retry_at_s > now:
            continue
        if orphan.running and not orphan.stop_sent:
            yield StopAttempt(node, attempt, Stop("fenced", "this attempt was given up", grace_s=0.0, signal="KILL"))
        elif not orphan.running and attempt not in state.attempts:
            yield Remove(node, attempt)


def next_wake_s(state: State, now: float, lost_after_s: float) -> float | None:
    """The earliest Unix time after `now` at which time alone changes what is to be done, or None."""
    times = [attempt.retry_at_s for attempt in state.attempts.values()]
    times += [orphan.retry_at_s for orphan in state.orphans.values()]
    times += [node.cool_until_s for node in state.nodes.values()]
    busy = {attempt.node for attempt in state.attempts.values()}
    times += [
        node.connection_since_s + lost_after_s
        for node in state.nodes.values()
        if not node.connected and node.name in busy
    ]
    for job_id in state.waiting:
        job = state.jobs[job_id]
        times += [job.not_before_s, job.spec.begin_at_s or 0.0]
    return min((time for time in times if time > now), default=None)
