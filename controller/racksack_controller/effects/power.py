"""Carries SwitchOn and SwitchOff out: a task a node that walks the ladder and records every step before the next.

It decides nothing. What it needs to know is a level: the phase of the node's record says whether its task is still
wanted, so a decision that is withdrawn ends the task. Once a shutdown was asked for, that is recorded, and the core
does not withdraw it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from racksack_controller.core.actions import Action, SwitchOff, SwitchOn
from racksack_controller.core.power import events as ev
from racksack_controller.core.power_records import Phase
from racksack_controller.core.state import Changes
from racksack_controller.effects.proof import silence, until_up
from racksack_controller.loop import Loop
from racksack_controller.nodes.answering import Answers
from racksack_controller.power.build import Drivers
from racksack_controller.power.driver import PowerDriver, PowerState
from racksack_controller.power.ladder import Limits, switch_off, switch_on
from racksack_controller.power.settings import PowerSettings
from racksack_controller.power.steps import Outcome, Step, witness

log = logging.getLogger("racksack.power")

SILENT_TRIES = 2  # a server whose silence is broken once has this many times `silence` to prove it
SILENT_LEAST_S = 30.0

_WANTED: dict[type[Action], tuple[Phase, ...]] = {
    SwitchOn: (Phase.BOOTING, Phase.ON),  # a boot that has come up ends by itself
    SwitchOff: (Phase.STOPPING,),
}


@dataclass(frozen=True)
class Powered:
    """A node whose power is switched: its drivers, the owner's wishes, and what is seen of it over the network."""

    drivers: Drivers
    settings: PowerSettings
    answers: Answers
    expect: Callable[[], None]  # it may answer soon
    let_go: Callable[[str], None]  # whatever its connection looks like, it is over; with a sentence
    logins: Callable[[], Awaitable[int | None]]  # people logged in just now, None when it does not say
    runs_on: Callable[[str], Awaitable[bool]]  # it runs in the boot of this id, and no shutdown is under way


class PowerEffects:
    """The effects on power. `nodes` follows the configuration."""

    def __init__(self, loop: Loop) -> None:
        self.nodes: dict[str, Powered] = {}
        self._loop = loop
        self._tasks: dict[str, tuple[Action, asyncio.Task[None]]] = {}

    def start(self, actions: Sequence[Action]) -> None:
        """Begin these; each ends in PowerSwitched, unless its decision is withdrawn."""
        for action in actions:
            task = asyncio.create_task(self._carry_out(action), name=action.key)
            self._tasks[action.node] = (action, task)

    def noticed(self, _changes: Changes) -> None:
        """End the tasks whose decision was withdrawn; called after every saved step."""
        for name, (action, task) in self._tasks.items():
            record = self._loop.state.power.get(name)
            wanted = record is not None and record.phase in _WANTED[type(action)]
            if not task.done() and not wanted:
                log.info("node=%s %s is no longer needed", name, action.key)
                task.cancel()

    async def close(self) -> None:
        """Give up what is under way; it is asked for again after a restart, with the time that is left."""
        for name in list(self.nodes):
            await self.forget(name)

    async def forget(self, name: str) -> None:
        """A node leaves the configuration, or its settings change."""
        if name in self._tasks:
            _, task = self._tasks.pop(name)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        powered = self.nodes.pop(name, None)
        if powered is not None:
            await powered.drivers.close()

    async def _carry_out(self, action: Action) -> None:
        try:
            powered = self.nodes.get(action.node)
            if powered is None:
                self._ended(action, ok=False, sentence="its power is no longer in the configuration")
            elif isinstance(action, SwitchOn):
                await self._switch_on(powered, action)
            elif isinstance(action, SwitchOff):
                await self._switch_off(powered, action)
        except Exception as error:  # a ladder must end in an event, or it would stay under way for ever
            log.exception("%s failed unexpectedly", action.key)
            self._ended(action, ok=False, sentence=f"the controller could not do it: {error!r}; see its log")
        finally:
            self._loop.finished(action)

    def _ended(self, action: Action, *, ok: bool, sentence: str) -> None:
        self._loop.post(ev.PowerSwitched(action.node, isinstance(action, SwitchOn), ok, sentence))

    async def _switch_on(self, powered: Powered, action: SwitchOn) -> None:
        drivers, settings = powered.drivers, powered.settings
        names = list(settings.on)
        resumed = action.way in names
        ways = drivers.on[names.index(action.way) :] if resumed else drivers.on
        boot_s = settings.boot_timeout_s if resumed else action.remaining_s
        old_boot_id = self._loop.state.nodes[action.node].boot_id
        powered.expect()
        steps = switch_on(
            ways,
            drivers.devices,
            lambda: until_up(self._loop.state, action.node, old_boot_id),
            Limits(boot_s=boot_s),
            action.remaining_s if resumed else None,
        )
        last = await self._record(action.node, steps)
        if last is not None and last.outcome is Outcome.DONE:
            self._ended(action, ok=True, sentence=last.detail)
            return
        if (await witness(drivers.devices)).state is PowerState.ON:
            # It has power and does not come up: the core has it switched off again.
            self._loop.post(ev.PowerSeen(action.node, True, "it has power"))
        sentence = f"{last.way}: {last.detail}" if last else "no driver could switch it on"
        self._ended(action, ok=False, sentence=sentence)

    async def _switch_off(self, powered: Powered, action: SwitchOff) -> None:
        drivers, settings = powered.drivers, powered.settings
        way = drivers.drivers.get(action.way)
        if way is None:
            await self._look_for_people(powered, action.node)
        limits = Limits(
            grace_s=action.grace_s if way is None else settings.off_grace_s,
            silent_s=SILENT_TRIES * settings.silence_s + SILENT_LEAST_S,
        )
        resume = None if way is None else (way, action.grace_s)
        again = way is not None and way.from_inside and not self._is_accepted(action.node)
        last = await self._record(action.node, self._off_steps(action.node, powered, limits, resume, again=again))
        if last is not None and last.outcome is Outcome.DONE:
            powered.let_go("it was switched off")
            self._ended(action, ok=True, sentence=last.detail)
        else:
            self._ended(action, ok=False, sentence=last.detail if last else "no driver could switch it off")

    def _is_accepted(self, node: str) -> bool:
        record = self._loop.state.power.get(node)
        return record is not None and record.is_accepted

    async def _look_for_people(self, powered: Powered, node: str) -> None:
        """Count the logins once more, at the last moment; the core withdraws the decision if there is one."""
        count = await powered.logins()
        if count is not None:
            await self._loop.submit(ev.LoginsSeen(node, count))

    def _off_steps(
        self, node: str, powered: Powered, limits: Limits, resume: tuple[PowerDriver, float] | None, *, again: bool
    ) -> AsyncIterator[Step]:
        drivers, quiet_s = powered.drivers, powered.settings.silence_s
        boot_id = self._loop.state.nodes[node].boot_id
        return switch_off(
            drivers.off,
            drivers.devices,
            lambda: silence(powered.answers, quiet_s, limits.poll_s),
            powered.settings.hard_off,
            limits,
            resume,
            lambda: powered.runs_on(boot_id),
            again=again,
        )

    async def _record(self, node: str, steps: AsyncIterator[Step]) -> Step | None:
        """Walk a ladder; each step is saved before the next begins. Gives the last."""
        last = None
        async with aclosing(cast("AsyncGenerator[Step, None]", steps)):
            async for step in steps:
                last = step
                event = ev.PowerStepped(
                    node, step.way, step.act.value, step.outcome.value, step.detail, round(step.took_s, 3)
                )
                await self._loop.submit(event)
        return last
