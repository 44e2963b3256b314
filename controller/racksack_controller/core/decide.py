"""What to do next: a function of (state, time). It looks at levels, not edges.

Called twice it asks for the same; called after a restart it carries on; with an event missing it is late, not wrong.
`schedule` gives the placements, which are saved before anything is done; `decide` gives what to ask of the nodes.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from racksack_controller.core.actions import (
    Action,
    Assemble,
    BringCheckpoint,
    Collect,
    Go,
    Remove,
    Start,
    StopAttempt,
    SwitchOff,
    SwitchOn,
)
from racksack_controller.core.jobs.checkpoints import to_bring
from racksack_controller.core.jobs.gang import has_come, is_over, may_start
from racksack_controller.core.jobs.requeue import drain_ends
from racksack_controller.core.power_records import Phase, boot_limit_s
from racksack_controller.core.state import Attempt, Node, Orphan, State, Stop
from racksack_jobspecs.states import FINAL, JobState


def decide(state: State, now: float) -> list[Action]:
    """Everything that is to be under way at `now`."""
    bring = [BringCheckpoint(attempt.node, attempt.key) for attempt in to_bring(state, now)]
    return [*_about_attempts(state, now), *bring, *_about_orphans(state, now), *_about_power(state, now)]


def _about_attempts(state: State, now: float) -> Iterator[Action]:
    fenced = _being_fenced(state)
    for attempt in [state.attempts[key] for key in state.open]:
        node = state.nodes[attempt.node]
        if (node.connected or attempt.collected) and attempt.retry_at_s <= now:
            action = _next_step(state, attempt, node, fenced)
            if action is not None:
                yield action


def _next_step(state: State, attempt: Attempt, node: Node, fenced: Container[str | int] = ()) -> Action | None:
    if attempt.state in FINAL:
        if not node.connected or (node.name, attempt.key) in state.orphans:
            return None  # an orphan has to end first
        # A gang's ranks stay known until all are over, so that nothing of what one of them was is forgotten.
        return Remove(node.name, attempt.key) if attempt.ranks == 1 or is_over(state.ranks(attempt)) else None
    if attempt.state is JobState.COLLECTING:
        return _assemble(state, attempt) if attempt.collected else Collect(node.name, attempt.key)
    if attempt.stop is not None:
        return None if attempt.stop.sent else StopAttempt(node.name, attempt.key, attempt.stop)
    if attempt.state is JobState.STAGING and not attempt.launched:
        is_taken = (node.name, attempt.key) in state.orphans  # by another store's attempt of this number
        waits = is_taken or node.name in fenced or attempt.job in fenced
        return None if waits else Start(node.name, attempt.key)
    if attempt.prepared and not attempt.go_sent and may_start(state.ranks(attempt)):
        return Go(node.name, attempt.key)
    return None


def _assemble(state: State, attempt: Attempt) -> Action | None:
    """The first rank whose folder has come asks for all of them."""
    ranks = state.ranks(attempt)
    first = next(rank for rank in ranks if rank.collected)
    return Assemble(attempt.node, attempt.key) if first.key == attempt.key and has_come(ranks) else None


def _about_orphans(state: State, now: float) -> Iterator[Action]:
    """Attempts that a node has and we do not: left from a partition, or of a job that went elsewhere."""
    for (node, attempt), orphan in state.orphans.items():
        if not state.nodes[node].connected or orphan.retry_at_s > now:
            continue
        if orphan.running and not orphan.stop_sent:
            yield StopAttempt(node, attempt, Stop("fenced", "this attempt was given up", grace_s=0.0, signal="KILL"))
        elif not orphan.running and not _is_known(state, attempt, orphan):
            yield Remove(node, attempt)


def _is_known(state: State, attempt: str, orphan: Orphan) -> bool:
    """Whether it is one of ours, which is removed as any other."""
    ours = state.attempts.get(attempt)
    return ours is not None and ours.epoch == orphan.epoch


def _being_fenced(state: State) -> set[str | int]:
    """Nodes with attempts that were given up and still run, and the jobs of these: first those have to end.

    Until then they use what the scheduler takes for free, and two attempts of one job never run side by side.
    """
    running = [where for where, orphan in state.orphans.items() if orphan.running and state.nodes[where[0]].connected]
    return {node for node, _ in running} | {int(attempt.partition(".")[0]) for _, attempt in running}


def _about_power(state: State, now: float) -> Iterator[Action]:
    """Ladders that are to be under way. One that was asked before goes on with the time that is left."""
    for name, power in state.power.items():
        traits = state.power_traits.get(name)
        if traits is None or power.phase not in (Phase.BOOTING, Phase.STOPPING):
            continue
        began_s = power.asked_at_s if power.way and power.asked_at_s is not None else now
        if power.phase is Phase.BOOTING:
            yield SwitchOn(name, power.way, max(1.0, began_s + boot_limit_s(power, traits) - now))
        else:
            yield SwitchOff(name, power.way, max(1.0, began_s + traits.off_grace_s - now))


def next_wake_s(state: State, now: float, lost_after_s: float) -> float | None:
    """The earliest Unix time after `now` at which time alone changes what is to be done, or None."""
    if state.unsettled:
        return now
    times = [state.attempts[key].retry_at_s for key in state.open]
    times += [pull.not_before_s for key in state.open if (pull := state.attempts[key].pull).is_due]
    times += [orphan.retry_at_s for orphan in state.orphans.values()]
    times += state.rack.cool_until[state.rack.cool_until > now].tolist()
    times += [state.nodes[name].connection_since_s + lost_after_s for name in state.silent if state.on_node(name)]
    times += [at_s for _, _, at_s in drain_ends(state)]
    eligible = state.queue.next_eligible_s()
    if eligible is not None:
        times.append(eligible)
    return min((time for time in times if time > now), default=None)
