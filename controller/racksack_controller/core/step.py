"""One step: everything that happens in it, in order.

Events have arrived. They are applied, and so is what time alone has changed. Then it is decided which jobs start, which
are ended to make room and which nodes are switched; each decision is applied like an event. What has changed is to be
saved, and then the actions may begin. The daemon's loop, the simulator and the tests call `step`, and nothing else
composes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from racksack_controller.core.actions import Action
from racksack_controller.core.apply import apply, end_drains, lose_unreachable, requeue_unstaged
from racksack_controller.core.decide import decide
from racksack_controller.core.events import DependencyEnded, Event, Placed
from racksack_controller.core.placing.overflow import overflow
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.placing.place import Scheduled, schedule
from racksack_controller.core.placing.preempt import preemptions
from racksack_controller.core.policy import DEFAULT, Policy
from racksack_controller.core.power.apply import note_idle
from racksack_controller.core.power.plan import PowerPlan, plan_power
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.state import Changes, State


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """By what a step decides. Times in seconds."""

    policy: Policy = DEFAULT
    power: PowerPolicy = DEFAULT_POWER
    lost_after_s: float = 300.0  # a node that is silent for so long has lost its attempts
    unstaged_after_s: float = 30.0  # and those that were not there yet are placed elsewhere


class Scheduler(Protocol):
    """What decides which jobs start: `schedule`, or what a simulation puts in its place."""

    def __call__(self, state: State, now: float, policy: Policy, memory: PassMemory, power: PowerPolicy) -> Scheduled:
        """The placements to make at `now`."""


class Planner(Protocol):
    """What decides which nodes are switched: `plan_power`, or what stands in for it."""

    def __call__(self, state: State, now: float, policy: PowerPolicy, scheduling: Policy) -> PowerPlan:
        """The decisions at `now`."""


class Step(NamedTuple):
    """What a step has done, and what is to be done once `changes` are saved."""

    refused: dict[int, Exception]  # the events that could not be applied, by their place among the step's events
    placed: list[Placed]
    changes: Changes
    actions: list[Action]
    power_wake_s: float | None  # when time alone may change what is to be done about power
    memory: PassMemory  # for the next step


def step(
    state: State,
    events: Sequence[Event],
    now: float,
    settings: Settings,
    memory: PassMemory,
    *,
    scheduler: Scheduler = schedule,
    planner: Planner | None = plan_power,
) -> Step:
    """Take one step at `now` (Unix seconds). Without a planner no node is switched."""
    refused = _apply_all(state, events, now)
    if state.unsettled and _apply_all(state, [DependencyEnded(())], now):
        del state.unsettled[next(iter(state.unsettled))]  # the next start judges its dependents
    lose_unreachable(state, now, settings.lost_after_s)
    requeue_unstaged(state, now, settings.unstaged_after_s)
    end_drains(state, now)
    state.queue.advance(now)
    state.turns.advance(now)

    placed, memory = scheduler(state, now, settings.policy, memory, settings.power)
    for placement in placed:
        apply(state, placement, now)
    for placement in overflow(state, now, settings.policy):
        apply(state, placement, now)
        placed.append(placement)
    for preempted in preemptions(state, now, settings.policy, memory.reservation):
        apply(state, preempted, now)

    wake_s = None
    if planner is not None:
        note_idle(state, now)
        plan = planner(state, now, settings.power, settings.policy)
        for decision in plan.events:
            apply(state, decision, now)
        wake_s = plan.wake_s

    changes = state.take_changes()
    return Step(refused, placed, changes, decide(state, now), wake_s, memory)


def _apply_all(state: State, events: Sequence[Event], now: float) -> dict[int, Exception]:
    """Apply events in order; one that is impossible is left out, and must not end what runs everybody's jobs."""
    refused: dict[int, Exception] = {}
    for place, event in enumerate(events):
        try:
            apply(state, event, now)
        except Exception as error:  # noqa: BLE001 - the caller logs it, and tells whoever waits for the event
            refused[place] = error
    return refused
