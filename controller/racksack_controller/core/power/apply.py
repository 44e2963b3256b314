"""What an event changes about the power of a node. One function an event; none asks for anything to be done.

What is seen is believed: a node whose agent answers is on, one that a device calls off is off, whoever switched it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from racksack_controller.core.events import Event
from racksack_controller.core.jobs.requeue import backoff_s, end_attempt
from racksack_controller.core.power import events as ev
from racksack_controller.core.power_records import (
    OperatorRequest,
    Phase,
    PowerLine,
    PowerRecord,
    PowerTraits,
    boot_limit_s,
)
from racksack_controller.core.rack.amounts import SLOTS
from racksack_controller.core.reachability import on_behind
from racksack_controller.core.records import Node
from racksack_controller.core.state import State
from racksack_jobspecs.states import JobState
from racksack_jobspecs.units import format_duration

RETRY_FIRST_S = 60.0  # a node that failed is left alone for so long, then twice, four times, ... as long
RETRY_MOST_S = 6 * 3600.0
GAP_WEIGHT = 0.5  # of the latest time in which there was nothing to do (Hwang and Wu, see `off`)


def has_work(state: State, name: str) -> bool:
    """Whether anything of any job is on a node: running, being brought there or back, or not yet removed."""
    return bool(state.attempts_on(name)) or bool(state.rack.held[SLOTS, state.rack.row[name]])


def tell(state: State, now: float, power: PowerRecord, kind: str, sentence: str, *, way: str = "") -> None:
    """Add a line to both stories of a node: that of its power, and its own."""
    state.tell_power(PowerLine(now, power.node, kind, way, sentence))
    if kind != "step":
        state.tell(now, sentence, node=power.node)


def _configured(state: State, event: ev.PowerConfigured, now: float) -> None:
    if event.traits is None:
        state.drop_power(event.node)
        return
    state.put_traits(event.node, event.traits)
    power = state.power.get(event.node)
    if power is None:
        on = state.nodes[event.node].connected
        power = PowerRecord(node=event.node, since_s=now, phase=Phase.ON if on else Phase.UNKNOWN)
        power = replace(power, on_since_s=now if on else None, seen_on=on or None)
    state.put_power(power)


def _switch_on_decided(state: State, event: ev.SwitchOnDecided, now: float) -> None:
    power = state.power[event.node]
    if power.phase is not Phase.BOOTING:
        tell(state, now, power, "on", f"is being switched on: {event.why}")
        state.put_power(booting(power, event.why, now))


def booting(power: PowerRecord, why: str, now: float) -> PowerRecord:
    """The record of a node that is to be switched on."""
    return replace(
        power,
        phase=Phase.BOOTING,
        gap_s=_gap_s(power, now),
        gap_began_s=None,
        since_s=now,
        why=why,
        way="",
        asked_at_s=None,
        boot_began_s=now,
        on_since_s=None,
        idle_since_s=None,
    )


def _gap_s(power: PowerRecord, now: float) -> float | None:
    """The smoothed length of times without work, the one that ends now included."""
    if power.gap_began_s is None:
        return power.gap_s
    length_s = now - power.gap_began_s
    return length_s if power.gap_s is None else (1.0 - GAP_WEIGHT) * power.gap_s + GAP_WEIGHT * length_s


def _switch_off_decided(state: State, event: ev.SwitchOffDecided, now: float) -> None:
    power = state.power[event.node]
    if power.phase is not Phase.STOPPING:
        tell(state, now, power, "off", f"is being switched off: {event.why}")
        if event.hangs:
            power = replace(power, hung_at_s=now)
        if event.aside_s:
            power = replace(power, retry_at_s=now + event.aside_s, problem=event.why, failures=power.failures + 1)
        state.put_power(
            replace(power, phase=Phase.STOPPING, since_s=now, why=event.why, way="", asked_at_s=None, boot_began_s=None)
        )


def _switch_withdrawn(state: State, event: ev.SwitchWithdrawn, now: float) -> None:
    power = state.power[event.node]
    if power.phase is Phase.STOPPING and power.asked_at_s is None:
        tell(state, now, power, "off", f"stays on: {event.why}")
        request = power.request_without(OperatorRequest.ON)
        state.put_power(replace(power, phase=Phase.ON, since_s=now, why=event.why, idle_since_s=None, request=request))


def _stepped(state: State, event: ev.PowerStepped, now: float) -> None:
    power = state.power.get(event.node)
    if power is None:
        return
    words = f"{event.act.replace('_', ' ')} {event.outcome.replace('_', ' ')}: {event.detail}"
    tell(state, now, power, "step", words, way=event.way)
    # From the asking on a server may go down, so the switch-off is not withdrawn any more.
    asks = event.act in ("on", "soft_off", "hard_off") and event.outcome in ("asking", "accepted")
    if asks and power.phase in (Phase.BOOTING, Phase.STOPPING):
        power = replace(power, way=event.way, asked_at_s=now, is_accepted=event.outcome == "accepted")
    state.put_power(replace(power, seen_on=_SEEN_ON.get((power.phase, event.act, event.outcome), power.seen_on)))


# What a step of a ladder proves about the power.
_SEEN_ON: dict[tuple[Phase, str, str], bool | None] = {
    (Phase.BOOTING, "confirm", "confirmed"): True,
    (Phase.BOOTING, "verify", "stuck"): True,
    (Phase.BOOTING, "verify", "failed"): None,
    (Phase.STOPPING, "confirm", "done"): False,
    (Phase.STOPPING, "verify", "done"): None,  # its silence is all there is
}


def _switched(state: State, event: ev.PowerSwitched, now: float) -> None:
    power = state.power.get(event.node)
    if power is None:
        return
    if event.on and power.phase is Phase.BOOTING:
        if not event.ok:
            _failed(state, power, event.sentence, now)
        elif state.nodes[event.node].connected:
            came_up(state, event.node, now, rebooted=True)
    elif not event.on and power.phase is Phase.STOPPING:
        if event.ok:
            _went_off(state, power, event.sentence, now)
        else:
            _failed(state, power, event.sentence, now)


def _failed(state: State, power: PowerRecord, sentence: str, now: float) -> None:
    """A boot or a shutdown did not succeed: leave the node alone for a growing time."""
    stopping = power.phase is Phase.STOPPING
    counts = (power.failures, power.stops_failed + 1) if stopping else (power.failures + 1, power.stops_failed)
    delay = backoff_s(counts[stopping], first_s=RETRY_FIRST_S, most_s=RETRY_MOST_S)
    what = "could not be switched off" if stopping else "could not be switched on"
    tell(state, now, power, "switched", f"{what}: {sentence}; retrying in {format_duration(delay)}")
    answers = stopping and state.nodes[power.node].connected
    state.put_power(
        replace(
            power,
            phase=Phase.ON if answers else Phase.SET_ASIDE,
            since_s=now,
            why=f"{what}: {sentence}",
            way="",
            asked_at_s=None,
            boot_began_s=None,
            failures=counts[0],
            stops_failed=counts[1],
            retry_at_s=now + delay,
            problem=sentence,
        )
    )


def _went_off(state: State, power: PowerRecord, words: str, now: float) -> None:
    """A node is off, by our request or behind our back. What ran there is over; results on its disk wait for it."""
    for attempt in state.on_node(power.node):
        if attempt.state is not JobState.COLLECTING:
            end_attempt(state, attempt, JobState.LOST, f"{power.node} lost its power", now, at_fault="node")
    stopped = power.phase is Phase.STOPPING
    offs = power.offs.add(now - power.asked_at_s) if stopped and power.asked_at_s is not None else power.offs
    aside = power.retry_at_s > now
    cycle = power.request is OperatorRequest.CYCLE and stopped
    sentence = f"is off: {words}" if stopped else f"was found off: {words}"
    tell(state, now, power, "switched" if stopped else "seen", sentence)
    state.put_power(
        replace(
            power,
            phase=Phase.SET_ASIDE if aside and stopped else Phase.OFF,
            since_s=now,
            why=power.problem if aside and stopped else (power.why if stopped else f"found off: {words}"),
            seen_on=None if stopped and power.seen_on is None else False,
            way="",
            asked_at_s=None,
            boot_began_s=None,
            on_since_s=None,
            idle_since_s=None,
            gap_began_s=power.gap_began_s if power.gap_began_s is not None else now,
            offs=offs,
            stops_failed=0,
            request=OperatorRequest.ON if cycle else power.request_without(OperatorRequest.OFF),
            logins=0,
        )
    )


def came_up(state: State, name: str, now: float, *, rebooted: bool) -> None:
    """A node's agent has answered: whatever was thought of its power, it is on."""
    power = state.power.get(name)
    if power is None or (power.phase is Phase.STOPPING and not rebooted):
        return
    boots = power.boots
    if power.phase is Phase.BOOTING and power.boot_began_s is not None and rebooted:
        boots = boots.add(now - power.boot_began_s)
        tell(state, now, power, "switched", f"is on after {format_duration(now - power.boot_began_s)}", way=power.way)
    elif power.phase is not Phase.ON:
        tell(state, now, power, "seen", "is on, and answers")
    if power.phase is Phase.ON and not rebooted:
        if power.seen_on is not True:
            state.put_power(replace(power, seen_on=True))
        return
    state.put_power(
        replace(
            power,
            phase=Phase.ON,
            since_s=now,
            why=power.why if power.phase is Phase.BOOTING else "it answers",
            seen_on=True,
            way="",
            asked_at_s=None,
            boot_began_s=None,
            on_since_s=now,
            idle_since_s=None,
            failures=0,
            stops_failed=0,
            retry_at_s=0.0,
            problem="",
            boots=boots,
            request=power.request_without(OperatorRequest.ON),
        )
    )


def note_boot(state: State, node: Node, up_s: float | None, now: float, *, is_new: bool) -> None:
    """Note since when a node that answers has been running. `node` is its record from before.

    The same boot as before was never interrupted. Of a new one the node says how old it is, which is not believed where
    it would have begun before the last one was seen to run.
    """
    power = state.power.get(node.name)
    if power is None:
        return
    began_s = now - up_s if up_s is not None else None
    if is_new and node.boot_id and began_s is not None and began_s < node.connection_since_s:
        began_s = None
    if not is_new and (began_s is None or began_s > node.connection_since_s > 0):
        began_s = node.connection_since_s or None
    state.put_power(replace(power, up_since_s=began_s))


def _seen(state: State, event: ev.PowerSeen, now: float) -> None:
    power = state.power.get(event.node)
    if power is None:
        return
    connected = state.nodes[event.node].connected
    if event.on and not connected:
        power = replace(power, confirmed_on_s=now)
        state.put_power(power)
    if event.on and power.seen_on is not True:
        if power.phase in (Phase.OFF, Phase.SET_ASIDE) and power.seen_on is False:
            tell(state, now, power, "seen", f"was found on: {event.words}")
            power = replace(power, phase=Phase.UNKNOWN, since_s=now, why=f"found on: {event.words}", retry_at_s=0.0)
        elif power.phase is Phase.OFF:
            power = _silent_but_on(state, power, event.words, now)
        state.put_power(replace(power, seen_on=True))
    elif not event.on and power.phase in (Phase.UNKNOWN, Phase.ON) and not connected:
        _went_off(state, power, event.words, now)
    elif not event.on and power.seen_on is not False and not connected and power.phase is not Phase.BOOTING:
        state.put_power(replace(power, seen_on=False))


def _silent_but_on(state: State, power: PowerRecord, words: str, now: float) -> PowerRecord:
    """The record of a node whose silence was taken for off, until a device could say that it is on.

    Its shutdown hangs, or somebody has switched it on: it gets the time of a boot to answer and is
    shut down again then.
    """
    limit_s = boot_limit_s(power, state.power_traits.get(power.node, PowerTraits()))
    problem = f"it stopped answering after its shutdown, but {words}"
    sentence = f"is not off: {problem}; if it does not answer it is switched off again after {format_duration(limit_s)}"
    tell(state, now, power, "seen", sentence)
    return replace(
        power,
        phase=Phase.SET_ASIDE,
        since_s=now,
        why=problem,
        problem=problem,
        stops_failed=power.stops_failed + 1,
        retry_at_s=now + limit_s,
    )


def _logins_seen(state: State, event: ev.LoginsSeen, now: float) -> None:
    power = state.power.get(event.node)
    if power is not None and power.logins != event.count:
        state.put_power(replace(power, logins=event.count))


def _watts_read(state: State, event: ev.WattsRead, now: float) -> None:
    power = state.power.get(event.node)
    if power is not None and (power.watts, power.watts_estimated) != (event.watts, event.estimated):
        state.put_power(replace(power, watts=event.watts, watts_estimated=event.estimated))


def _rehearsed(state: State, event: ev.BootRehearsed, now: float) -> None:
    power = state.power.get(event.node)
    if power is not None:
        offs = power.offs if event.off_s is None else power.offs.add(event.off_s)
        state.put_power(replace(power, boots=power.boots.add(event.boot_s), offs=offs))


def note_idle(state: State, now: float) -> None:
    """Note since when each node that is on has had nothing to do, a jump host for those behind it included."""
    for name, power in list(state.power.items()):
        if power.phase is not Phase.ON:
            continue
        busy = has_work(state, name) or bool(on_behind(state, name))
        if busy and (power.idle_since_s is not None or power.gap_began_s is not None):
            state.put_power(replace(power, idle_since_s=None, gap_began_s=None, gap_s=_gap_s(power, now)))
        elif not busy and power.idle_since_s is None:
            state.put_power(replace(power, idle_since_s=now, gap_began_s=now))


Handler = Callable[[State, Any, float], None]
HANDLERS: dict[type[Event], Handler] = {
    ev.PowerConfigured: _configured,
    ev.SwitchOnDecided: _switch_on_decided,
    ev.SwitchOffDecided: _switch_off_decided,
    ev.SwitchWithdrawn: _switch_withdrawn,
    ev.PowerStepped: _stepped,
    ev.PowerSwitched: _switched,
    ev.PowerSeen: _seen,
    ev.LoginsSeen: _logins_seen,
    ev.WattsRead: _watts_read,
    ev.BootRehearsed: _rehearsed,
}
