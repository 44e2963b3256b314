"""A driver that does not knock again where its login was refused: BMCs lock an account after a few tries.

The refusal is repeated without asking the device, until enough time has passed or the password on the controller is
another one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from racksack_controller.power.driver import (
    Asks,
    CheckReport,
    PowerDriver,
    PowerLoginRefused,
    PowerPasswordMissing,
    PowerReading,
    PowerUntrusted,
)
from racksack_controller.power.secret import Secret, SecretError

LOGIN_WAIT_S = 600.0

T = TypeVar("T")


class Cautious:
    """`driver`, asked again only when its login may succeed."""

    def __init__(self, driver: PowerDriver, secret: Secret, clock: Callable[[], float] = monotonic) -> None:
        self._driver = driver
        self._secret = secret
        self._clock = clock
        self._refusal: PowerLoginRefused | None = None
        self._refused_at_s = 0.0
        self._refused_password = 0

    @property
    def name(self) -> str:
        """See PowerDriver."""
        return self._driver.name

    @property
    def target(self) -> str:
        """See PowerDriver."""
        return self._driver.target

    @property
    def knows_state(self) -> bool:
        """See PowerDriver."""
        return self._driver.knows_state

    @property
    def from_inside(self) -> bool:
        """See PowerDriver."""
        return self._driver.from_inside

    @property
    def asks(self) -> Asks:
        """See PowerDriver."""
        return self._driver.asks

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """See PowerDriver."""
        return await self._guarded(lambda: self._driver.status(timeout_s))

    async def on(self, timeout_s: float | None = None) -> None:
        """See PowerDriver."""
        await self._guarded(lambda: self._driver.on(timeout_s))

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """See PowerDriver."""
        await self._guarded(lambda: self._driver.soft_off(timeout_s))

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """See PowerDriver."""
        await self._guarded(lambda: self._driver.hard_off(timeout_s))

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """See PowerDriver."""
        return await self._guarded(lambda: self._driver.watts(timeout_s))

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """See PowerDriver; asked by a person, so it always tries."""
        return await self._driver.check(timeout_s)

    async def close(self) -> None:
        """See PowerDriver."""
        await self._driver.close()

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._refusal is not None and not self._may_try():
            raise self._refusal
        try:
            result = await call()
        except (PowerPasswordMissing, PowerUntrusted):
            raise  # no password was sent
        except PowerLoginRefused as refusal:
            self._refusal, self._refused_at_s, self._refused_password = refusal, self._clock(), self._print()
            raise
        self._refusal = None
        return result

    def _may_try(self) -> bool:
        return self._clock() - self._refused_at_s >= LOGIN_WAIT_S or self._print() != self._refused_password

    def _print(self) -> int:
        """What changes when the password does, in this process alone."""
        try:
            return hash(self._secret.read())
        except SecretError:
            return 0
