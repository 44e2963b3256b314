"""What operators want of a node's power: what it means for the nodes behind it, what speaks against it, what changes.

A jump host that goes off takes along what is reached through it, since that could be neither used nor switched any
more: the request goes to those nodes first, and the jump host follows when they are off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from racksack_controller.core.events import Event
from racksack_controller.core.jobs.requeue import requeue_now
from racksack_controller.core.power.apply import has_work, tell
from racksack_controller.core.power.events import PowerHeld, PowerReleased, PowerRequested
from racksack_controller.core.power.why import why_not_woken
from racksack_controller.core.power_records import REQUESTS, OperatorRequest, Phase, PowerHold
from racksack_controller.core.reachability import always_on_behind, blocked_by, on_behind
from racksack_controller.core.state import State
from racksack_jobspecs.units import format_duration


def requests_for(state: State, name: str, request: OperatorRequest, by: str, *, force: bool) -> list[PowerRequested]:
    """The request for a node, after those for the nodes behind it that are on."""
    behind = on_behind(state, name) if request.goes_off else []
    reason = f"it is reached through {name}"
    return [
        *(PowerRequested(other, request, by, force, reason) for other in behind),
        PowerRequested(name, request, by, force),
    ]


def objection(state: State, name: str, request: OperatorRequest, now: float, *, force: bool) -> str | None:
    """Why a node and what is behind it cannot be switched as an operator wishes, as a sentence; None when it can."""
    way = blocked_by(state, name, now) if request is not OperatorRequest.OFF else None
    if way is not None:
        why = why_not_woken(state, state.power[way], now) or "is to go off"
        return f"{name} is reached through {way}, and {way} {why}; deal with {way} first"
    return None if request is OperatorRequest.ON else _objection_to_off(state, name, now, force=force)


def _objection_to_off(state: State, name: str, now: float, *, force: bool) -> str | None:
    for other in on_behind(state, name):
        traits = state.power_traits.get(other)
        if traits is None or not traits.can_switch_off:
            return (
                f"{_called(other, name)} is on and no configured driver can switch it off; shut it down by hand first"
            )
    if force:
        return None
    held = [other for other in on_behind(state, name) if state.power[other].held(now)]
    if held:
        return f"{_called(held[0], name)} is held; release it first, or use --force"
    for other in (name, *on_behind(state, name), *always_on_behind(state, name)):
        if has_work(state, other):
            jobs = ", ".join(str(job) for job in sorted({attempt.job for attempt in state.attempts_on(other)}))
            drain = f"drain {'it' if other == name else other} with --then-off to wait for that"
            return f"{_called(other, name)} is busy with job {jobs}; {drain}, or use --force"
        if other in state.power and state.power[other].logins:
            return f"somebody is logged in on {_called(other, name)}; use --force to switch it off all the same"
    return None


def _called(other: str, name: str) -> str:
    return other if other == name else f"{other}, which is reached through {name},"


def _requested(state: State, event: PowerRequested, now: float) -> None:
    power = state.power.get(event.node)
    if power is None:
        return
    reason = f": {event.reason}" if event.reason else ""
    tell(state, now, power, "request", f"{event.by} wants it {REQUESTS[event.request]}{reason}")
    off = power.phase in (Phase.OFF, Phase.SET_ASIDE) and power.seen_on is not True
    request = OperatorRequest.ON if event.request is OperatorRequest.CYCLE and off else event.request
    done = (request is OperatorRequest.OFF and off) or (request is OperatorRequest.ON and power.phase is Phase.ON)
    request = OperatorRequest.NONE if done else request
    state.put_power(replace(power, request=request, request_by=event.by if request else "", retry_at_s=0.0))
    for attempt in state.on_node(event.node) if event.force and request.goes_off else ():
        requeue_now(state, attempt, f"{event.by} wants {event.node} {REQUESTS[event.request]}", now)


def _held(state: State, event: PowerHeld, now: float) -> None:
    power = state.power.get(event.node)
    if power is None:
        return
    until = "" if event.until_s is None else f" for {format_duration(max(0.0, event.until_s - now))}"
    reason = f": {event.reason}" if event.reason else ""
    tell(state, now, power, "hold", f"is neither switched on nor off{until}, by {event.by}{reason}")
    hold = PowerHold(event.until_s, event.by, event.reason)
    request = (
        OperatorRequest.ON if power.request is OperatorRequest.ON else OperatorRequest.NONE
    )  # it is to stay on, or as it is: the last word counts
    state.put_power(replace(power, hold=hold, request=request, request_by=power.request_by if request else ""))


def _released(state: State, event: PowerReleased, now: float) -> None:
    power = state.power.get(event.node)
    if power is not None and power.hold is not None:
        tell(state, now, power, "release", f"its power is no longer held, by {event.by}")
        state.put_power(replace(power, hold=None))


HANDLERS: dict[type[Event], Callable[[State, Any, float], None]] = {
    PowerRequested: _requested,
    PowerHeld: _held,
    PowerReleased: _released,
}
