"""What every way of switching a server is: one small contract, its values and its errors.

Rules all drivers keep:

- Asking for the state a server is already in is success.
- Every call has a time limit; past it `PowerTimedOut` is raised, whatever the library underneath is still doing.
- A call that returns says "accepted", not "done": BMCs lag behind their actions. `status` and the ladder tell when
  it is done.
- `unknown` is never read as off. Only a device that knows (`knows_state`) can say that a server is off.
- A message never holds a password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")


class PowerState(StrEnum):
    """What a driver can say about a server's power."""

    ON = "on"
    OFF = "off"
    TRANSITION = "transition"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PowerReading:
    """A state, and the word the device used for it."""

    state: PowerState
    raw: str


@dataclass(frozen=True, slots=True)
class Asks:
    """How often a way is asked to switch a server on that does not come up, and how far apart. Seconds."""

    count: int = 1
    every_s: float = 0.0


ONCE = Asks()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a driver found when asked whether it would work; `problems` is empty when it would."""

    driver: str
    target: str
    state: PowerState = PowerState.UNKNOWN
    model: str = ""
    firmware: str = ""
    reset_types: tuple[str, ...] = ()
    watts: float | None = None
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found that would keep this way from working."""
        return not self.problems


class PowerError(Exception):
    """One sentence: what was tried, on what, what came back, what to do. The parts are kept for `why`."""

    def __init__(self, driver: str, act: str, target: str, came_back: str, advice: str) -> None:
        super().__init__(f"{driver} could not {act} {target}: {came_back}; {advice}")
        self.driver = driver
        self.act = act
        self.target = target
        self.came_back = came_back
        self.advice = advice


class PowerUnreachable(PowerError):  # noqa: N818 - named for what happened
    """Nothing answered: wrong address, no cable, no route, or the BMC is restarting. Worth trying again."""


class PowerLoginRefused(PowerError):  # noqa: N818 - named for what happened
    """User or password is wrong. Trying again soon may lock the account, so wait long before it."""


class PowerPasswordMissing(PowerLoginRefused):
    """The password cannot be read on the controller; nothing was sent."""


class PowerUntrusted(PowerLoginRefused):
    """The device did not show the certificate it should have; no password was sent."""


class PowerNotAllowed(PowerError):  # noqa: N818 - named for what happened
    """The device understood and declined, or this way cannot do such a thing at all. The next way may."""


class PowerTimedOut(PowerError):  # noqa: N818 - named for what happened
    """No answer within the time limit; the request may still take effect, so look at the state before the next."""


class PowerProtocolError(PowerError):
    """Something answered that makes no sense for this protocol."""


class PowerDriver(Protocol):
    """One way to reach the power of one server.

    `timeout_s` is the limit of one call in seconds; None takes the driver's own. Each method raises `PowerError`;
    `check` and `close` do not.
    """

    @property
    def name(self) -> str:
        """The name it has in the configuration, such as `redfish`."""

    @property
    def target(self) -> str:
        """What it acts on, for messages: an address a person recognises."""

    @property
    def knows_state(self) -> bool:
        """Whether `status` can tell an off server from one that does not answer."""

    @property
    def from_inside(self) -> bool:
        """Whether it is the running system itself that is asked to shut down, and not a device beside it."""

    @property
    def asks(self) -> Asks:
        """How often to ask for `on`; more than once where nobody says that the request has arrived."""

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """Whether the server is on, as far as this way can tell."""

    async def on(self, timeout_s: float | None = None) -> None:
        """Ask for power; returns when the request was accepted."""

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """Ask the operating system to shut down; returns when the request was accepted."""

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """Cut the power; returns when the request was accepted."""

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """What the server draws now, in watts; None where there is no sensor."""

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """Log in, read what can be read, switch nothing."""

    async def close(self) -> None:
        """Log out and let go; never takes longer than a few seconds."""


ON = "switch on"
SOFT_OFF = "shut down"
HARD_OFF = "cut the power of"
STATUS = "read the power state of"
WATTS = "read the watts of"


def cannot(driver: PowerDriver, act: str, advice: str) -> PowerNotAllowed:
    """The error of a driver that has no way to do `act`."""
    return PowerNotAllowed(driver.name, act, driver.target, "this driver cannot do that", advice)


async def limited(awaitable: Awaitable[T], timeout_s: float) -> T:
    """What `awaitable` gives, or TimeoutError after `timeout_s` seconds."""
    async with asyncio.timeout(timeout_s):
        return await awaitable
