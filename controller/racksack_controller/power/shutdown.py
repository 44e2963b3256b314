"""The wait for a server that was asked to go off: until a device says so, or until the server itself is silent.

Where a device knows the state its word counts, and silence does not: a crashed system is silent, too. A device that
cannot be asked (wrong password, no cable) all the while is as good as none. Then silence counts, but only after a
shutdown that the system itself has accepted, and when all the time that a shutdown may take is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from time import monotonic

from racksack_controller.power.driver import PowerDriver, PowerState
from racksack_controller.power.steps import Act, Outcome, Step, Witness, pauses, witness

Verify = Callable[[], Awaitable[None]]
"""Returns once the node has proven to be up (or silent); may be cancelled at any time. Must not raise for 'not yet'."""

RUNNING_LOOK_EVERY_S = 2.0
RUNNING_LOOKS_MIN = 2  # a system that has accepted a shutdown may take a moment until it is seen to go down


class Shutdown:
    """A shutdown of `way` under way. `silent` returns once the server has not answered for long enough.

    `silent_s` is how long `silent` may take when it is asked last of all, in seconds. `runs_on` says whether the system
    runs on in the boot that was to end, with no shutdown under way; given for one that nobody may have been asked for.
    """

    def __init__(
        self,
        way: PowerDriver,
        devices: Sequence[PowerDriver],
        silent: Verify,
        *,
        poll_s: float,
        silent_s: float,
        runs_on: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._way = way
        self._devices = [device for device in devices if device.knows_state]
        self._silent = silent
        self._poll_s = poll_s
        self._silent_s = silent_s
        self._runs_on = runs_on
        self._began_s = monotonic()

    async def end(self, limit_s: float) -> Step:
        """Wait for the end: DONE, or NOT_CONFIRMED with what is known.

        It takes `limit_s` seconds at most, and where silence is all there is `silent_s` more, or at least.
        """
        self._began_s = monotonic()
        if not self._devices:  # with a moment left after a restart, a server that is off could not prove it
            limit_s = max(limit_s, self._silent_s)
        proofs = self._proofs()
        try:
            return await self._watched(limit_s, proofs)
        finally:
            for task in proofs:
                task.cancel()
            await asyncio.gather(*proofs, return_exceptions=True)

    def _proofs(self) -> dict[asyncio.Future[None], tuple[Act, Outcome, str]]:
        """What ends the wait beside the devices, each with the step that it makes."""
        proofs: dict[asyncio.Future[None], tuple[Act, Outcome, str]] = {}
        if not self._devices:
            proofs[asyncio.ensure_future(self._silent())] = (Act.VERIFY, Outcome.DONE, "it is silent")
        if self._runs_on is not None:
            detail = "it keeps running and no shutdown is in progress, so it is asked again"
            proofs[asyncio.ensure_future(_until_seen_running(self._runs_on))] = (
                Act.CONFIRM,
                Outcome.NOT_CONFIRMED,
                detail,
            )
        return proofs

    async def _watched(self, limit_s: float, proofs: dict[asyncio.Future[None], tuple[Act, Outcome, str]]) -> Step:
        waits, heard = pauses(self._poll_s), False
        while True:
            seen = await witness(self._devices)
            heard = heard or seen.state is not None
            took_s = monotonic() - self._began_s
            if seen.state is PowerState.OFF:
                return self._step(Act.CONFIRM, Outcome.DONE, seen.words)
            proof = next((task for task in proofs if task.done()), None)
            if proof is not None:
                await proof
                return self._step(*proofs[proof])
            if took_s >= limit_s:
                return await self._late(seen, took_s, heard=heard)
            await _pause(proofs, min(next(waits), max(0.01, limit_s - took_s)))

    async def _late(self, seen: Witness, took_s: float, *, heard: bool) -> Step:
        """All the time is over that a shutdown may take, and no device has said off."""
        if self._devices and self._way.from_inside and not heard and await self._is_silent():
            since_s = monotonic() - self._began_s
            detail = f"it is silent {since_s:.0f} s after its shutdown, and no device could tell ({seen.words})"
            return self._step(Act.VERIFY, Outcome.DONE, detail)
        detail = f"after {took_s:.0f} s {seen.words}" if self._devices else f"it still answers after {took_s:.0f} s"
        return self._step(Act.CONFIRM, Outcome.NOT_CONFIRMED, detail)

    async def _is_silent(self) -> bool:
        """Whether it is silent now, not only some time ago: it may have restarted instead."""
        try:
            async with asyncio.timeout(self._silent_s):
                await self._silent()
        except TimeoutError:
            return False
        return True

    def _step(self, act: Act, outcome: Outcome, detail: str) -> Step:
        return Step(self._way.name, act, outcome, detail, monotonic() - self._began_s)


async def _until_seen_running(runs_on: Callable[[], Awaitable[bool]]) -> None:
    """Return once the system was seen to run on several times in a row."""
    looks = 0
    while True:
        looks = looks + 1 if await runs_on() else 0
        if looks >= RUNNING_LOOKS_MIN:
            return
        await asyncio.sleep(RUNNING_LOOK_EVERY_S)


async def _pause(tasks: Collection[asyncio.Future[None]], delay_s: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
    else:
        await asyncio.sleep(delay_s)
