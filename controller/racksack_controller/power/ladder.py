"""Tries a node's ways to switch it, one after the other, and tells each step. It has no opinion about when.

- On: each way is asked in turn; then the devices that know the state must say on, then `verify` must succeed, before
  the way counts. Only a failure leads to the next way. A server that is on but does not come up is not helped by
  asking for power again, so the ladder ends there and says so.
- A way that nobody confirms (a magic packet) is asked again while the server neither comes up nor is seen on. That does
  no harm, so it also goes for a way that a controller asked before it ended.
- Off: soft ways first. Off is confirmed by a device that knows, or by `silent` where there is none. Power is cut only
  if that is allowed, and after the grace time of every soft way that was accepted.

Steps are yielded as they happen, so that the caller can record each before the next begins. Asking for off is yielded
before it is done (`ASKING`): from there on the server may go down whatever becomes of the controller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from racksack_controller.power.boot import Boot
from racksack_controller.power.driver import PowerDriver, PowerState
from racksack_controller.power.steps import Act, Outcome, Step, ask, judged, pauses, witness

Verify = Callable[[], Awaitable[None]]
"""Returns once the node has proven to be up (or silent); may be cancelled at any time. Must not raise for 'not yet'."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds. `boot_s` and `grace_s` are for each way; `confirm_s` is how far a BMC may lag.

    `poll_s` is the longest time between two looks at a device; the first ones follow each other faster.
    """

    boot_s: float = 600.0
    grace_s: float = 180.0
    confirm_s: float = 60.0
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
) -> AsyncIterator[Step]:
    """Switch a node off; the last step is DONE or STUCK.

    `silent` returns once the node has not answered for long enough to be taken as off; it counts only where no device
    knows the state. `hard` allows the power to be cut. With `resume` a way was asked before (by a controller that ended
    meanwhile) and has so many seconds left.
    """
    seen = await witness(devices)
    if seen.state is PowerState.OFF:
        yield Step("", Act.CONFIRM, Outcome.DONE, f"it is off already ({seen.words})", 0.0)
        return
    if resume is not None:
        step = await _go_down(resume[0], devices, silent, resume[1], limits.poll_s)
        yield step
        if step.outcome is Outcome.DONE:
            return
    for act, wait_s in ((Act.SOFT_OFF, limits.grace_s), (Act.HARD_OFF, limits.confirm_s)):
        if act is Act.HARD_OFF and not hard:
            break
        for way in ways:
            yield Step(way.name, act, Outcome.ASKING, f"asking {way.name}", 0.0)
            step = await ask(way, act)
            yield step
            if step.outcome is not Outcome.ACCEPTED:
                continue
            step = await _go_down(way, devices, silent, wait_s, limits.poll_s)
            yield step
            if step.outcome is Outcome.DONE:
                return
    seen = await witness(devices)
    allowed = "" if hard else "; cutting the power is not allowed (hard_off: false)"
    yield Step("", Act.CONFIRM, Outcome.STUCK, f"the server is not known to be off: {seen.words}{allowed}", 0.0)


async def _go_down(
    way: PowerDriver, devices: Sequence[PowerDriver], silent: Verify, limit_s: float, poll_s: float
) -> Step:
    """Wait until a device says off; where none knows, until `silent` returns."""
    began_s = monotonic()
    if any(device.knows_state for device in devices):
        step = await _seen_off(way, devices, limit_s, poll_s)
        outcome = Outcome.DONE if step.outcome is Outcome.CONFIRMED else Outcome.NOT_CONFIRMED
        return Step(way.name, Act.CONFIRM, outcome, step.detail, step.took_s)
    try:
        async with asyncio.timeout(limit_s):
            await silent()
    except TimeoutError:
        detail = f"it still answers after {limit_s:.0f} s"
        return Step(way.name, Act.CONFIRM, Outcome.NOT_CONFIRMED, detail, monotonic() - began_s)
    return Step(way.name, Act.CONFIRM, Outcome.DONE, "it is silent", monotonic() - began_s)


async def _seen_off(way: PowerDriver, devices: Sequence[PowerDriver], limit_s: float, poll_s: float) -> Step:
    began_s = monotonic()
    waits = pauses(poll_s)
    while True:
        seen = await witness(devices)
        took_s = monotonic() - began_s
        if (step := judged(way, devices, seen, PowerState.OFF, took_s, limit_s)) is not None:
            return step
        await asyncio.sleep(min(next(waits), max(0.01, limit_s - took_s)))


async def _cancel(task: asyncio.Future[None]) -> None:
    """Cancel and wait, so that nothing of the task goes on after the step."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
