"""What an operator's wish for a node means for the nodes behind it, and what speaks against it.

A jump host that goes off takes along what is reached through it, since that could be neither used nor switched any
more: the wish goes to those nodes first, and the jump host follows when they are off.
"""

from __future__ import annotations

from racksack_controller.core.power.apply import has_work
from racksack_controller.core.power.dark import always_on_behind, lit_behind
from racksack_controller.core.power.events import PowerRequested
from racksack_controller.core.power.records import Wish
from racksack_controller.core.state import State


def wished(state: State, name: str, wish: Wish, by: str, *, force: bool) -> list[PowerRequested]:
    """The wish for a node, after those for the nodes behind it that are on."""
    behind = lit_behind(state, name) if wish in (Wish.OFF, Wish.CYCLE) else []
    reason = f"it is reached through {name}"
    return [
        *(PowerRequested(other, wish, by, force, reason) for other in behind),
        PowerRequested(name, wish, by, force),
    ]


def objection(state: State, name: str, wish: Wish, *, force: bool) -> str | None:
    """Why a node and what is behind it cannot be switched as an operator wishes, as a sentence; None when it can."""
    if wish is Wish.ON:
        return None
    for other in lit_behind(state, name):
        traits = state.power_traits.get(other)
        if traits is None or not traits.can_switch_off:
            return f"{_called(other, name)} is on and nothing here can switch it off; shut it down by hand first"
    if force:
        return None
    held = [other for other in lit_behind(state, name) if state.power[other].hold is not None]
    if held:
        return f"{_called(held[0], name)} is held; release it first, or use --force"
    for other in (name, *lit_behind(state, name), *always_on_behind(state, name)):
        if has_work(state, other):
            jobs = ", ".join(str(job) for job in sorted({attempt.job for attempt in state.attempts_on(other)}))
            drain = f"drain {'it' if other == name else other} with --then-off to wait for that"
            return f"{_called(other, name)} is busy with job {jobs}; {drain}, or use --force"
        if other in state.power and state.power[other].logins:
            return f"somebody is logged in on {_called(other, name)}; use --force to switch it off all the same"
    return None


def _called(other: str, name: str) -> str:
    return other if other == name else f"{other}, which is reached through {name},"
