"""The wall clock was set: by NTP after a start without a battery, by a person, by a virtual machine that was paused.

What is to happen after a delay happens after that delay, and a node has been silent for as long as it has: moments that
were noted to measure time from, or to wait for, move with the clock. What a person named (`--begin`, the deadline of a
job) and what is only shown stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from racksack_controller.core.records import Attempt, Job, Node
from racksack_controller.core.state import State
from racksack_jobspecs.units import format_duration

T = TypeVar("T")

WAIT_S_MAX = 3600.0  # no delay of ours is longer, but for those that a job asked for itself
ASIDE_S_MAX = 6 * 3600.0  # and for servers that hang again and again
_OF_POWER = ("since_s", "confirmed_on_s", "asked_at_s", "boot_began_s", "on_since_s", "idle_since_s", "gap_began_s")


def clock_jumped(state: State, by_s: float, now: float) -> None:
    """Move all such moments by `by_s` seconds; `now` is Unix time by the clock as it is set now.

    Whatever lies further ahead than any delay may be, because the clock was wrong before this start, is due now.
    """
    if by_s:
        way = "ahead" if by_s > 0 else "back"
        state.tell(now, f"the controller's clock was set {way} by {format_duration(abs(by_s))}; delays are kept")
    for node in list(state.nodes.values()):
        _put(state.put_node, node, _node(node, by_s, now))
    for attempt in list(state.attempts.values()):
        _put(state.put_attempt, attempt, _attempt(attempt, by_s, now))
    for job in list(state.jobs.values()):
        _put(state.put_job, job, _job(job, by_s, now))
    for (name, key), orphan in list(state.orphans.items()):
        state.put_orphan(name, key, replace(orphan, retry_at_s=_due(orphan.retry_at_s, by_s, now)))
    for power in list(state.power.values()):
        moved = {name: _since(value, by_s, now) for name in _OF_POWER if (value := getattr(power, name))}
        _put(state.put_power, power, replace(power, **moved, retry_at_s=_due(power.retry_at_s, by_s, now, ASIDE_S_MAX)))


def _put(put: Callable[[T], None], old: T, new: T) -> None:
    """Store a record that has changed."""
    if new != old:
        put(new)


def _node(node: Node, by_s: float, now: float) -> Node:
    drain = node.drain
    if drain is not None and drain.deadline_at_s is not None:
        drain = replace(drain, deadline_at_s=drain.deadline_at_s + by_s)
    since_s = _since(node.connection_since_s, by_s, now) if node.connection_since_s else 0.0
    return replace(node, drain=drain, connection_since_s=since_s, cool_until_s=_due(node.cool_until_s, by_s, now))


def _attempt(attempt: Attempt, by_s: float, now: float) -> Attempt:
    pull = replace(attempt.pull, not_before_s=_due(attempt.pull.not_before_s, by_s, now))
    return replace(attempt, pull=pull, retry_at_s=_due(attempt.retry_at_s, by_s, now))


def _job(job: Job, by_s: float, now: float) -> Job:
    most_s = max(WAIT_S_MAX, job.spec.retry_delay_s)
    return replace(job, not_before_s=_due(job.not_before_s, by_s, now, most_s))


def _due(at_s: float, by_s: float, now: float, most_s: float = WAIT_S_MAX) -> float:
    """A moment that something waits for; 0: nothing does."""
    moved = at_s + by_s if at_s else at_s
    return now if moved > now + most_s else moved


def _since(at_s: float, by_s: float, now: float) -> float:
    """A moment that time is measured from."""
    return min(now, at_s + by_s)
