"""Asks BMCs now and then: whether the server is on, and what it draws. Rarely, since BMCs are slow and easily upset.

A word that contradicts what is believed is an event; the rest is kept here. While a ladder is under way it asks for
itself. Where no device knows, or none could be asked for as long, long silence is all there is to see.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

import msgspec

from racksack_controller.core.power import events as ev
from racksack_controller.core.power_records import Phase, PowerRecord
from racksack_controller.effects.connector import Connector
from racksack_controller.effects.power import Powered
from racksack_controller.energy.joules import SENSOR_S_MAX
from racksack_controller.loop import Loop
from racksack_controller.power.driver import PowerDriver, PowerError, PowerState
from racksack_controller.power.steps import Witness, witness
from racksack_jobspecs.units import format_duration

log = logging.getLogger("racksack.power")

POLL_EVERY_S = 60.0
POLL_SOON_S = 5.0  # while something about the node is not clear
JITTER = 0.2
SETTLE_S = 1.0  # sensors lag behind the power
NO_SENSOR_WAIT_S = 3600.0  # a device without a sensor is asked again after so long
SLOW_S = 5.0  # a device that takes longer is not asked for watts while the node is being switched
WATTS_STEP = 0.05  # a smaller change of the draw, as a part of it, is no news


class Sample(msgspec.Struct, frozen=True):
    """What a sensor said, when (Unix seconds), and whether the node had power then."""

    watts: float
    at_s: float
    seen_on: bool


class Poller:
    """The eyes on one node's devices."""

    def __init__(self, loop: Loop, name: str, powered: Powered, connector: Connector) -> None:
        self.said_on: bool | None = None  # by a device, at the last look
        self._sample: Sample | None = None
        self._loop = loop
        self._name = name
        self._powered = powered
        self._connector = connector
        self._without_sensor: dict[str, float] = {}
        self._took_s: dict[str, float] = {}  # how long each device took for its last answer about watts
        self._mute_since_s: float | None = None  # since when no device says anything, by the monotonic clock
        self._soon = asyncio.Event()

    @property
    def watts(self) -> float | None:
        """What a sensor said lately, since the power last came or went; None where there is none."""
        sample = self._sample
        if sample is None or time.time() - sample.at_s > SENSOR_S_MAX or sample.seen_on is not self._is_seen_on():
            return None
        return sample.watts

    def _is_seen_on(self) -> bool:
        record = self._record()
        return record is not None and record.phase in (Phase.ON, Phase.BOOTING, Phase.STOPPING)

    async def run(self) -> None:
        """Look until cancelled."""
        devices = self._powered.drivers.devices
        while True:
            try:
                await (self.look() if devices else self.listen())
            except Exception:  # whatever one node's device does, it must go on being looked at
                log.exception("node=%s: unexpected error while looking at its power", self._name)
            every_s = POLL_SOON_S if self._is_unclear() else POLL_EVERY_S
            await self._pause(every_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - not to ask all at once

    def look_soon(self) -> None:
        """Its power has just come or gone: what it draws is another amount now."""
        self._soon.set()

    async def _pause(self, delay_s: float) -> None:
        self._soon.clear()
        try:
            async with asyncio.timeout(delay_s):
                await self._soon.wait()
        except TimeoutError:
            return
        await asyncio.sleep(SETTLE_S)

    def _record(self) -> PowerRecord | None:
        return self._loop.state.power.get(self._name)

    def _is_switching(self) -> bool:
        record = self._record()
        return record is not None and record.phase in (Phase.BOOTING, Phase.STOPPING)

    def _is_connected(self) -> bool:
        node = self._loop.state.nodes.get(self._name)
        return node is not None and node.connected

    def _is_unclear(self) -> bool:
        record = self._record()
        if record is None:
            return False
        return record.phase is Phase.UNKNOWN or (record.phase is Phase.ON and not self._is_connected())

    async def listen(self, mute_s: float = float("inf"), words: str = "") -> None:
        """Take a node to be off that has been silent for long enough, as no device can say more for `mute_s` seconds.

        One that ran until then counts as off only when its jobs have been given up: the network may be at fault.
        """
        record, node = self._record(), self._loop.state.nodes.get(self._name)
        if record is None or node is None or node.connected or record.phase not in (Phase.UNKNOWN, Phase.ON):
            return
        patience_s = self._powered.settings.silence_s
        if record.phase is Phase.ON:
            patience_s = max(patience_s, self._loop.lost_after_s)
        silent_s = time.time() - node.connection_since_s
        if not node.connection_since_s or min(silent_s, mute_s) < patience_s:
            return
        if await self._powered.answers() is False:
            silent = f"it has been silent for {format_duration(silent_s)}{words}"
            self._loop.post(ev.PowerSeen(self._name, False, silent))

    async def look(self) -> None:
        """Ask once for the state and the watts, and tell what is news."""
        record = self._record()
        if record is None:
            return
        if not self._is_switching():
            seen = await witness(self._powered.drivers.devices)
            if seen.state is None:
                await self.listen(self._mute_s(), f", and no device could tell ({seen.words})")
            else:
                self._mute_since_s = None
            if seen.state in (PowerState.ON, PowerState.OFF):
                self.said_on = seen.state is PowerState.ON
                await self._tell(seen, self.said_on)
        await self._read_watts()

    def _mute_s(self) -> float:
        """For how long no device has said anything, in seconds."""
        now_s = time.monotonic()
        self._mute_since_s = now_s if self._mute_since_s is None else self._mute_since_s
        return now_s - self._mute_since_s

    async def _tell(self, seen: Witness, is_on: bool) -> None:
        record = self._record()
        if record is None or self._is_switching():
            return  # a ladder began meanwhile
        if not is_on and self._is_connected():
            if await self._connector.look() is not None:
                log.warning("node=%s answers although %s", self._name, seen.words)
                return
            self._connector.let_go(f"it has lost its power ({seen.words})")
            return  # the next look, a few seconds from now, finds it gone
        node = self._loop.state.nodes.get(self._name)
        is_silent = (
            is_on and node is not None and not node.connected and node.connection_since_s > record.confirmed_on_s
        )
        if record.seen_on is not is_on or (record.phase is Phase.ON and not is_on) or is_silent:
            self._loop.post(ev.PowerSeen(self._name, is_on, seen.words))
        if is_on and not self._is_connected():
            self._connector.retry_now()

    async def _read_watts(self) -> None:
        seen_on = self._is_seen_on()
        for driver in self._powered.drivers.devices:
            if self._is_switching() and self._took_s.get(driver.name, 0.0) > SLOW_S:
                continue  # the ladder needs its answers
            began_s = time.monotonic()
            watts = await self._watts_of(driver)
            self._took_s[driver.name] = time.monotonic() - began_s
            if watts is not None and seen_on is self._is_seen_on():
                self._note(Sample(watts, time.time(), seen_on))
                return

    async def _watts_of(self, driver: PowerDriver) -> float | None:
        if time.monotonic() < self._without_sensor.get(driver.name, 0.0):
            return None
        try:
            watts = await driver.watts()
        except PowerError as error:
            log.debug("node=%s no watts: %s", self._name, error)
            return None
        if watts is None:
            self._without_sensor[driver.name] = time.monotonic() + NO_SENSOR_WAIT_S
        return watts

    def _note(self, sample: Sample) -> None:
        self._sample = sample
        record = self._record()
        if record is None or record.phase is not Phase.ON:
            return
        known = None if record.watts_estimated else record.watts
        if known is None or abs(sample.watts - known) > WATTS_STEP * max(known, 1.0):
            self._loop.post(ev.WattsRead(self._name, sample.watts))
