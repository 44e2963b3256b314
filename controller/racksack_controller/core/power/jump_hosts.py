"""Jump hosts that are switched themselves: on before anything behind them is, and as long as anything behind them is.

Decisions are levels here as everywhere: while a jump host boots, what is wanted behind it stays wanted, and is switched
on when the jump host answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from racksack_controller.core.power.apply import has_work
from racksack_controller.core.power.events import SwitchOffDecided, SwitchOnDecided, SwitchWithdrawn
from racksack_controller.core.power_records import Phase, PowerRecord
from racksack_controller.core.reachability import (
    always_on_behind,
    blocked_by,
    closed_jumps,
    could_wake,
    is_off,
    on_behind,
)
from racksack_controller.core.state import State

Decision = SwitchOnDecided | SwitchOffDecided | SwitchWithdrawn


def way_first(state: State, decided: Iterable[Decision], now: float) -> Iterator[Decision]:
    """`decided`, where a node to which the way is off gives its turn to the jump hosts on the way."""
    for one in decided:
        if isinstance(one, SwitchOnDecided) and closed_jumps(state, one.node):
            yield from _open(state, one, now)
        else:
            yield one


def _open(state: State, one: SwitchOnDecided, now: float) -> Iterator[Decision]:
    """What is to be done about the way to a node: the jump hosts whose own way is open, nothing while they boot."""
    if blocked_by(state, one.node, now) is not None:
        return
    why = f"{one.node} is reached through it: {one.why}"
    for way in closed_jumps(state, one.node):
        if closed_jumps(state, way.node):
            continue
        if way.phase is Phase.STOPPING and way.asked_at_s is None:
            yield SwitchWithdrawn(way.node, why)
        elif is_off(state, way):
            yield SwitchOnDecided(way.node, why, one.for_jobs)


def is_under_way(state: State, name: str) -> bool:
    """Whether nothing can be done for a node but wait: the jump hosts on the way to it boot or go down."""
    return any(
        way.phase in (Phase.BOOTING, Phase.ON) or (way.phase is Phase.STOPPING and way.asked_at_s is not None)
        for way in closed_jumps(state, name)
    )


def to_reach(state: State, wanted: Callable[[], set[int]], now: float) -> Iterator[Decision]:
    """Dark jump hosts behind which something is on that is to be reached. `wanted`: the rows that the queue may use."""
    for name, power in state.power.items():
        traits = state.power_traits.get(name)
        if traits is None or not traits.behind or not traits.can_switch_on or not could_wake(state, power, now):
            continue
        for other in on_behind(state, name):
            yield SwitchOnDecided(name, f"{other} is on and is reached through it")
        for other in always_on_behind(state, name):
            if has_work(state, other) or state.rack.row[other] in wanted():
                yield SwitchOnDecided(name, f"{other} has work and is reached through it")


def is_awaited(state: State, power: PowerRecord, wanted: set[int], now: float) -> bool:
    """Whether the queue may soon have something switched on behind a jump host."""
    traits = state.power_traits.get(power.node)
    for other in traits.behind if traits is not None else ():
        if state.rack.row[other] in wanted and other in state.power and could_wake(state, state.power[other], now):
            return True
    return False
