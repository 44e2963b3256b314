"""All that can happen to the power of a node. `apply` turns each into changes of the state."""

from __future__ import annotations

from racksack_controller.core.events import Event
from racksack_controller.core.power_records import OperatorRequest, PowerTraits


class PowerConfigured(Event, frozen=True):
    """What the configuration says about a node's power; None: it has none and is always on."""

    node: str
    traits: PowerTraits | None


class SwitchOnDecided(Event, frozen=True):
    """A node is to be switched on. `for_jobs`: the jobs that it is for, first in the queue first (a few of them)."""

    node: str
    why: str
    for_jobs: tuple[int, ...] = ()


class SwitchOffDecided(Event, frozen=True):
    """A node is to be switched off. `hangs`: it does not answer; it then stays set aside for `aside_s` seconds."""

    node: str
    why: str
    hangs: bool = False
    aside_s: float = 0.0


class SwitchWithdrawn(Event, frozen=True):
    """A switch-off that nobody has been asked for yet is no longer needed; with it a request for on is fulfilled."""

    node: str
    why: str


class PowerStepped(Event, frozen=True):
    """One step of the ladder is over: posted before the next begins. Acts and outcomes as in `power.steps`."""

    node: str
    way: str
    act: str  # on | soft_off | hard_off | confirm | verify
    outcome: str  # asking | accepted | failed | skipped | confirmed | not_confirmed | done | stuck
    detail: str
    took_s: float = 0.0


class PowerSwitched(Event, frozen=True):
    """A ladder has ended: the node is on (off), or could not be switched."""

    node: str
    on: bool
    ok: bool
    sentence: str


class PowerSeen(Event, frozen=True):
    """A device says that a node is on or off, whoever switched it."""

    node: str
    on: bool
    words: str


class PowerRequested(Event, frozen=True):
    """An operator wants a node on, off, or off and on again; with `force` its jobs are queued again.

    `reason`: why, where the request is for another node.
    """

    node: str
    request: OperatorRequest
    by: str
    force: bool = False
    reason: str = ""


class PowerHeld(Event, frozen=True):
    """A node is neither to be switched on nor off by itself, until a Unix time or (None) until released."""

    node: str
    until_s: float | None
    by: str
    reason: str = ""


class PowerReleased(Event, frozen=True):
    """The hold of a node is over."""

    node: str
    by: str


class LoginsSeen(Event, frozen=True):
    """So many people are logged in on a node."""

    node: str
    count: int


class WattsRead(Event, frozen=True):
    """What a node draws, by a sensor or (estimated) by the configuration."""

    node: str
    watts: float
    estimated: bool = False


class BootRehearsed(Event, frozen=True):
    """Somebody measured a boot and a shutdown of this node (seconds)."""

    node: str
    boot_s: float
    off_s: float | None = None
