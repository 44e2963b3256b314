"""The wait for a server that was asked to come on: until a device says so, and until the node itself is up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

from racksack_controller.power.driver import PowerDriver, PowerState
from racksack_controller.power.steps import Act, Outcome, Step, Witness, ask, judged, pauses, witness


class Boot:
    """A boot under way: `proof` is done once the node is up, which says more than any device.

    The way is asked again as often as it wants (`asks`), until the node is up or a device says that it is on.
    """

    def __init__(
        self,
        way: PowerDriver,
        devices: Sequence[PowerDriver],
        proof: asyncio.Future[None],
        poll_s: float,
        *,
        asked: bool,
    ) -> None:
        self.proof = proof
        self._way = way
        self._devices = devices
        self._poll_s = poll_s
        self._times_asked = int(asked)
        self._asks_left = way.asks.count - 1 if asked or way.asks.count > 1 else 0
        self._ask_at_s = monotonic() + (way.asks.every_s if asked else 0.0)
        self._fault = ""

    async def confirm(self, limit_s: float) -> Step:
        """Wait until a device says on. A transition is waited for; silence of all devices leaves it to `come_up`."""
        began_s = monotonic()
        waits = pauses(self._poll_s)
        while True:
            seen = await witness(self._devices)
            took_s = monotonic() - began_s
            if self.proof.done() and seen.state is not PowerState.ON:
                return self._step(Act.CONFIRM, Outcome.SKIPPED, f"the node is up already ({seen.words})", took_s)
            if (step := judged(self._way, self._devices, seen, took_s, limit_s)) is not None:
                return step
            await self._wait(min(next(waits), max(0.01, limit_s - took_s)), seen)

    async def come_up(self, limit_s: float) -> Step:
        """Wait for the proof; end early when a device says twice that the server went off again."""
        began_s = monotonic()
        times_off = 0
        seen = Witness(None, "")
        while True:
            await self._wait(limit_s - (monotonic() - began_s), seen)
            if self.proof.done():
                await self.proof
                return self._step(Act.VERIFY, Outcome.DONE, "the node came up", monotonic() - began_s)
            seen = await witness(self._devices)
            times_off = times_off + 1 if seen.state is PowerState.OFF else 0
            took_s = monotonic() - began_s
            if times_off >= 2:
                detail = f"it went off again while booting ({seen.words})"
                return self._step(Act.VERIFY, Outcome.FAILED, detail, took_s)
            if took_s >= limit_s:
                outcome = Outcome.STUCK if seen.state is PowerState.ON else Outcome.FAILED
                detail = f"it did not come up within {limit_s:.0f} s ({seen.words})"
                return self._step(Act.VERIFY, outcome, detail, took_s)

    async def _wait(self, limit_s: float, seen: Witness) -> None:
        """Until the proof, the next look or the next asking, whichever comes first."""
        wait_s = min(self._poll_s, limit_s)
        if self._asks_left > 0 and seen.state is not PowerState.ON:
            if monotonic() >= self._ask_at_s:
                await self._ask_again()
            wait_s = min(wait_s, self._ask_at_s - monotonic())
        await asyncio.wait({self.proof}, timeout=max(0.0, wait_s))

    async def _ask_again(self) -> None:
        step = await ask(self._way, Act.ON)
        self._asks_left -= 1
        self._ask_at_s = monotonic() + self._way.asks.every_s
        if step.outcome is Outcome.ACCEPTED:
            self._times_asked += 1
        else:
            self._fault = f"; asked again: {step.detail}"

    def _step(self, act: Act, outcome: Outcome, detail: str, took_s: float) -> Step:
        often = f", asked {self._times_asked} times" if self._times_asked > 1 else ""
        return Step(self._way.name, act, outcome, f"{detail}{often}{self._fault}", took_s)
