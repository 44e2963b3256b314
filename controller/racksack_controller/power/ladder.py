"""Tries a node's ways to switch it, one after the other, and tells each step. It has no opinion about when.

- On: each way is asked in turn; then the devices that know the state must say on, then `verify` must succeed, before
  the way counts. Only a failure leads to the next way. A server that is on but does not come up is not helped by
  asking for power again, so the ladder ends there and says so.
- A way that nobody confirms (a magic packet) is asked again while the server neither comes up nor is seen on. That does
  no harm, so it also goes for a way that a controller asked before it ended.
- Off: soft ways first. Off is confirmed by a device that knows, or by `silent` where none can say it (`Shutdown`).
  Power is cut only if that is allowed, and after the grace time of every soft way that was accepted.

Steps are yielded as they happen, so that the caller can record each before the next begins. Asking for off is yielded
before it is done (`ASKING`): from there on the server may go down whatever becomes of the controller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from racksack_controller.power.boot import Boot
from racksack_controller.power.driver import PowerDriver, PowerState
from racksack_controller.power.shutdown import Shutdown, Verify
from racksack_controller.power.steps import Act, Outcome, Step, ask, witness


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds. `boot_s` and `grace_s` are for each way; `confirm_s` is how far a BMC may lag.

    `poll_s` is the longest time between two looks at a device; the first ones follow each other faster. `silent_s` is
    how long a server may take to prove that it is silent.
    """

    boot_s: float = 600.0
    grace_s: float = 180.0
    confirm_s: float = 60.0
    silent_s: float = 60.0
    poll_s: float = 5.0


async def switch_on(
    ways: Sequence[PowerDriver],
    devices: Sequence[PowerDriver],
    verify: Verify,
    limits: Limits = Limits(),
    resume_s: float | None = None,
) -> AsyncIterator[Step]:
    """Switch a node on; the last step is DONE, STUCK or the failure of the last way.

    `devices` are all of the node's drivers, asked for its state. With `resume_s` the first way was asked before (by a
    controller that ended meanwhile) and has so many seconds left to boot.
    """
    for number, way in enumerate(ways):
        boot_s = limits.boot_s
        resumed = number == 0 and resume_s is not None
        if resumed and resume_s is not None:
            boot_s = resume_s
        else:
            step = await ask(way, Act.ON)
            yield step
            if step.outcome is not Outcome.ACCEPTED:
                continue
        boot = Boot(way, devices, asyncio.ensure_future(verify()), limits.poll_s, asked=not resumed)
        try:
            if not resumed:
                step = await boot.confirm(limits.confirm_s)
                yield step
                if step.outcome is Outcome.NOT_CONFIRMED:
                    continue
            step = await boot.come_up(boot_s)
            yield step
        finally:
            await _cancel(boot.proof)
        if step.outcome in (Outcome.DONE, Outcome.STUCK):
            return


async def switch_off(
    ways: Sequence[PowerDriver],
    devices: Sequence[PowerDriver],
    silent: Verify,
    hard: bool,
    limits: Limits = Limits(),
    resume: tuple[PowerDriver, float] | None = None,
    runs_on: Callable[[], Awaitable[bool]] | None = None,
    *,
    again: bool = False,
) -> AsyncIterator[Step]:
    """Switch a node off; the last step is DONE or STUCK.

    `silent` returns once the node has not answered for long enough to be taken as off; it counts only where no device
    can say its state. `hard` allows the power to be cut. With `resume` a way was asked before (by a controller that
    ended meanwhile) and has so many seconds left; it ends early if `runs_on` says that no shutdown is under way. With
    `again` it is asked once more first, since nobody knows whether it was: a way that takes two requests for one.
    """

    def waits_for(way: PowerDriver, runs_on: Callable[[], Awaitable[bool]] | None = None) -> Shutdown:
        return Shutdown(way, devices, silent, poll_s=limits.poll_s, silent_s=limits.silent_s, runs_on=runs_on)

    seen = await witness(devices)
    if seen.state is PowerState.OFF:
        yield Step("", Act.CONFIRM, Outcome.DONE, f"it is off already ({seen.words})", 0.0)
        return
    if resume is not None:
        if again:
            yield await ask(resume[0], Act.SOFT_OFF)
        step = await waits_for(resume[0], runs_on).end(resume[1])
        yield step
        if step.outcome is Outcome.DONE:
            return
    async with aclosing(_ask_to_go_off(ways, hard, limits, waits_for)) as steps:
        async for step in steps:
            yield step
            if step.outcome is Outcome.DONE:
                return
    seen = await witness(devices)
    allowed = "" if hard else "; cutting the power is not allowed (hard_off: false)"
    yield Step("", Act.CONFIRM, Outcome.STUCK, f"the server is not known to be off: {seen.words}{allowed}", 0.0)


async def _ask_to_go_off(
    ways: Sequence[PowerDriver], hard: bool, limits: Limits, waits_for: Callable[[PowerDriver], Shutdown]
) -> AsyncGenerator[Step, None]:
    """Ask the ways one after the other, first softly; each that accepts is waited for."""
    for act, wait_s in ((Act.SOFT_OFF, limits.grace_s), (Act.HARD_OFF, limits.confirm_s)):
        if act is Act.HARD_OFF and not hard:
            return
        for way in ways:
            yield Step(way.name, act, Outcome.ASKING, f"asking {way.name}", 0.0)
            step = await ask(way, act)
            yield step
            if step.outcome is Outcome.ACCEPTED:
                yield await waits_for(way).end(wait_s)


async def _cancel(task: asyncio.Future[None]) -> None:
    """Cancel and wait, so that nothing of the task goes on after the step."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
