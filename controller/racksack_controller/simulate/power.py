"""The power of the virtual rack: boots and shutdowns that take time, cost energy and fail, from a seed.

A node counts as on from the moment its boot begins until its shutdown is over.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

import msgspec

from racksack_controller.core import events as ev
from racksack_controller.core.actions import SwitchOff, SwitchOn
from racksack_controller.core.power import events as pev
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.power_records import PowerTraits
from racksack_controller.core.state import State

NEVER_S = float("inf")
JOULES_PER_KWH = 3.6e6


class PowerModel(msgspec.Struct, frozen=True, kw_only=True):
    """How the machines behave. Times in seconds, energy in joules."""

    boot_s: float = 120.0
    boot_spread: float = 0.0  # standard deviation of the boot's length, as a part of it
    boot_failures: float = 0.0  # part of the boots that never end
    off_s: float = 10.0
    watts_idle: float = 95.0
    watts_max: float = 190.0
    watts_off: float = 5.0
    boot_j: float | None = None  # of a whole boot; None: idle power while it lasts
    off_j: float | None = None
    seed: int = 1
    idle_off_s: float | None = None  # None: the break-even
    min_on_s: float = 0.0
    off_at_start: bool = True
    policy: PowerPolicy = DEFAULT_POWER
    own: dict[str, PowerTraits | None] = {}  # what a configuration says of its nodes; None: always on

    def traits_of(self, name: str) -> PowerTraits | None:
        """What the core is told about a node; None when nothing can switch it."""
        if name not in self.own:
            return self.traits()
        own = self.own[name]
        return None if own is None else msgspec.structs.replace(own, boot_s=self.boot_s, off_s=self.off_s)

    def watts_of(self, name: str) -> tuple[float, float, float]:
        """What a node draws idle, busy and off: as configured, or as all others do."""
        own = self.own.get(name)
        if own is None or own.watts_idle is None or own.watts_max is None:
            return self.watts_idle, self.watts_max, self.watts_off
        return own.watts_idle, own.watts_max, own.watts_off

    def traits(self) -> PowerTraits:
        """What a configuration would say about such a node."""
        return PowerTraits(
            idle_off_s=self.idle_off_s,
            min_on_s=self.min_on_s,
            watts_idle=self.watts_idle,
            watts_max=self.watts_max,
            watts_off=self.watts_off,
            boot_s=self.boot_s,
            off_s=self.off_s,
            boot_j=self.boot_j,
            off_j=self.off_j,
            boot_timeout_s=max(600.0, 3.0 * self.boot_s),
        )


class Clock(Protocol):
    """What the power side needs of the replay."""

    state: State

    def at(self, time_s: float, what: Callable[[float], None], *, rank: int = 1) -> None:
        """Let something happen at a time."""

    def tell(self, event: ev.Event) -> None:
        """The core hears of an event now."""


class PowerUse(msgspec.Struct, frozen=True):
    """What a replay's machines did, all together."""

    on_s: dict[str, float]  # of each node, seconds
    joules: float
    boots: int
    boots_failed: int
    offs: int

    @property
    def node_s_on(self) -> float:
        """Seconds for which nodes were on, booting or going down."""
        return sum(self.on_s.values())

    @property
    def node_hours_on(self) -> float:
        """The same in hours."""
        return self.node_s_on / 3600.0

    @property
    def kwh(self) -> float:
        """Energy of all nodes."""
        return self.joules / JOULES_PER_KWH


class SimulatedPower:
    """Carries out SwitchOn and SwitchOff, and adds up what it costs."""

    def __init__(self, model: PowerModel, clock: Clock, connect: Callable[[str], None]) -> None:
        self.model = model
        self.under_way: set[str] = set()
        self.boots = self.boots_failed = self.offs = 0
        self._clock = clock
        self._connect = connect
        self._random = random.Random(model.seed)  # noqa: S311 - a replay has to be repeatable
        self._on_since: dict[str, float] = {}
        self._dark_since: dict[str, float] = {}
        self._on_s: defaultdict[str, float] = defaultdict(float)  # of each node, up to `_on_since`
        self._dark_s: defaultdict[str, float] = defaultdict(float)
        self._extra_j = 0.0  # of boots and shutdowns, beyond idle power

    def begin(self, name: str, now: float) -> None:
        """A node of the workload's start: off, or on and connected."""
        traits = self.model.traits_of(name)
        if traits is not None:
            self._clock.tell(pev.PowerConfigured(name, traits))
        if traits is not None and self.model.off_at_start:
            self._dark_since[name] = now
            self._clock.tell(pev.PowerSeen(name, False, "it was never switched on"))
        else:
            self._on_since[name] = now
            self._connect(name)

    def perform(self, action: SwitchOn | SwitchOff, now: float) -> None:
        """Begin to switch a node."""
        self.under_way.add(action.key)
        if isinstance(action, SwitchOn):
            self._switch_on(action, now)
        else:
            self._clock.tell(pev.PowerStepped(action.node, "virtual", "soft_off", "accepted", "virtual accepted"))
            self._clock.tell(ev.NodeDisconnected(action.node, "it is going down"))
            self._clock.at(now + self.model.off_s, lambda at_s: self._is_off(action, at_s), rank=0)

    def use(self, now: float, busy_s: float) -> PowerUse:
        """All that was used until `now`. `busy_s`: for how many seconds a whole node was busy, all together."""
        watts = {name: self.model.watts_of(name) for name in [*self._on_since, *self._dark_since]}
        on_s = {name: self._on_s[name] + now - self._on_since.get(name, now) for name in watts}
        dark_s = {name: self._dark_s[name] + now - self._dark_since.get(name, now) for name in watts}
        joules = sum(on_s[name] * idle + dark_s[name] * off for name, (idle, _, off) in watts.items())
        joules += busy_s * sum(most - idle for idle, most, _ in watts.values()) / max(1, len(watts)) + self._extra_j
        return PowerUse(on_s, joules, self.boots, self.boots_failed, self.offs)

    def _switch_on(self, action: SwitchOn, now: float) -> None:
        model = self.model
        took_s = model.boot_s * max(0.3, self._random.gauss(1.0, model.boot_spread))
        fails = self._random.random() < model.boot_failures
        self.boots += 1
        if action.node not in self._on_since:
            self._on_since[action.node] = now
            self._dark_s[action.node] += now - self._dark_since.pop(action.node)
        if model.boot_j is not None:
            self._extra_j += model.boot_j - took_s * model.watts_idle
        self._clock.tell(pev.PowerStepped(action.node, "virtual", "on", "accepted", "virtual accepted"))
        if fails:
            self._clock.at(now + action.remaining_s, lambda at_s: self._did_not_come(action, at_s))
        else:
            self._clock.at(now + took_s, lambda _at: self._is_on(action), rank=0)

    def _is_on(self, action: SwitchOn) -> None:
        self.under_way.discard(action.key)
        self._connect(action.node)

    def _did_not_come(self, action: SwitchOn, now: float) -> None:
        self.under_way.discard(action.key)
        self.boots_failed += 1
        self._go_dark(action.node, now)
        self._clock.tell(pev.PowerSwitched(action.node, True, False, "it did not come up"))

    def _is_off(self, action: SwitchOff, now: float) -> None:
        self.under_way.discard(action.key)
        self.offs += 1
        if self.model.off_j is not None:
            self._extra_j += self.model.off_j - self.model.off_s * self.model.watts_idle
        self._go_dark(action.node, now)
        self._clock.tell(pev.PowerSwitched(action.node, False, True, "it is silent"))

    def _go_dark(self, name: str, now: float) -> None:
        self._on_s[name] += now - self._on_since.pop(name)
        self._dark_since[name] = now
