"""Tries a node's ways to switch it, one after the other, and tells each step. It has no opinion about when.

- On: each way is asked in turn; then the devices that know the state must say on, then `verify` must succeed, before
  the way counts. Only a failure leads to the next way. A server that is on but does not come up is not helped by
  asking for power again, so the ladder ends there and says so.
- Off: soft ways first. Off is confirmed by a device that knows, or by `silent` where there is none. Power is cut only
  if that is allowed, and after the grace time of every soft way that was accepted.

Steps are yielded as they happen, so that the caller can record each before the next begins. Asking for off is yielded
before it is done (`ASKING`): from there on the server may go down whatever becomes of the controller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from racksack_controller.power.driver import PowerDriver, PowerError, PowerNotAllowed, PowerState

FIRST_POLL_S = 0.5

Verify = Callable[[], Awaitable[None]]
"""Returns once the node has proven to be up (or silent); may be cancelled at any time. Must not raise for 'not yet'."""


class Act(StrEnum):
    """What a step did."""

    ON = "on"
    SOFT_OFF = "soft_off"
    HARD_OFF = "hard_off"
    CONFIRM = "confirm"
    VERIFY = "verify"


class Outcome(StrEnum):
    """How a step ended. `DONE` ends a ladder well, `STUCK` ends it badly; the others lead on."""

    ASKING = "asking"
    ACCEPTED = "accepted"
    FAILED = "failed"
    SKIPPED = "skipped"
    CONFIRMED = "confirmed"
    NOT_CONFIRMED = "not_confirmed"
    DONE = "done"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: on which way, what, how it ended, a sentence, and how long it took in seconds."""

    way: str
    act: Act
    outcome: Outcome
    detail: str
    took_s: float
    error: PowerError | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds. `boot_s` and `grace_s` are for each way; `confirm_s` is how far a BMC may lag.

    `poll_s` is the longest time between two looks at a device; the first ones follow each other faster.
    """

    boot_s: float = 600.0
    grace_s: float = 180.0
    confirm_s: float = 60.0
    poll_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Witness:
    """What the devices that know the state said: a state, or nothing, with the words."""

    state: PowerState | None
    words: str


async def witness(devices: Sequence[PowerDriver]) -> Witness:
    """The state according to the first device that knows it and answers; None when none does."""
    words = []
    for device in devices:
        if not device.knows_state:
            continue
        try:
            reading = await device.status()
        except PowerError as error:
            words.append(str(error))
            continue
        if reading.state is not PowerState.UNKNOWN:
            return Witness(reading.state, f"{device.name} says {reading.raw}")
        words.append(f"{device.name} says {reading.raw!r}")
    return Witness(None, "; ".join(words) or "no device here knows whether the server is on")


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
            step = await _ask(way, Act.ON)
            yield step
            if step.outcome is not Outcome.ACCEPTED:
                continue
        proof = asyncio.ensure_future(verify())
        try:
            if not resumed:
                step = await _confirm(way, devices, PowerState.ON, limits.confirm_s, limits.poll_s, proof)
                yield step
                if step.outcome is Outcome.NOT_CONFIRMED:
                    continue
            step = await _come_up(way, devices, proof, boot_s, limits.poll_s)
            yield step
        finally:
            await _cancel(proof)
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
            step = await _ask(way, act)
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


async def _ask(way: PowerDriver, act: Act) -> Step:
    """Ask one way for one thing."""
    began_s = monotonic()
    ask = {Act.ON: way.on, Act.SOFT_OFF: way.soft_off, Act.HARD_OFF: way.hard_off}[act]
    try:
        await ask()
    except PowerError as error:
        unable = isinstance(error, PowerNotAllowed)
        outcome = Outcome.SKIPPED if unable else Outcome.FAILED
        return Step(way.name, act, outcome, str(error), monotonic() - began_s, error)
    return Step(way.name, act, Outcome.ACCEPTED, f"{way.name} accepted", monotonic() - began_s)


async def _confirm(
    way: PowerDriver,
    devices: Sequence[PowerDriver],
    wanted: PowerState,
    limit_s: float,
    poll_s: float,
    proof: asyncio.Future[None] | None = None,
) -> Step:
    """Wait until a device says `wanted`. A transition is waited for; silence of all devices leaves it to `verify`.

    `proof` that the node is up says more than any device.
    """
    began_s = monotonic()
    pauses = _pauses(poll_s)
    while True:
        seen = await witness(devices)
        took_s = monotonic() - began_s
        if seen.state is wanted:
            return Step(way.name, Act.CONFIRM, Outcome.CONFIRMED, seen.words, took_s)
        if proof is not None and proof.done():
            return Step(way.name, Act.CONFIRM, Outcome.SKIPPED, f"the node is up already ({seen.words})", took_s)
        if not any(device.knows_state for device in devices):
            return Step(way.name, Act.CONFIRM, Outcome.SKIPPED, seen.words, took_s)
        if took_s >= limit_s:
            outcome = Outcome.SKIPPED if seen.state is None else Outcome.NOT_CONFIRMED
            return Step(way.name, Act.CONFIRM, outcome, f"after {took_s:.0f} s {seen.words}", took_s)
        await asyncio.sleep(min(next(pauses), max(0.01, limit_s - took_s)))


async def _come_up(
    way: PowerDriver, devices: Sequence[PowerDriver], proof: asyncio.Future[None], boot_s: float, poll_s: float
) -> Step:
    """Wait for the proof, up to `boot_s`; end early when a device says twice that the server went off again."""
    began_s = monotonic()
    times_off = 0
    while True:
        left_s = boot_s - (monotonic() - began_s)
        await asyncio.wait({proof}, timeout=max(0.0, min(poll_s, left_s)))
        if proof.done():
            await proof
            return Step(way.name, Act.VERIFY, Outcome.DONE, "the node came up", monotonic() - began_s)
        seen = await witness(devices)
        times_off = times_off + 1 if seen.state is PowerState.OFF else 0
        took_s = monotonic() - began_s
        if times_off >= 2:
            detail = f"it went off again while booting ({seen.words})"
            return Step(way.name, Act.VERIFY, Outcome.FAILED, detail, took_s)
        if took_s >= boot_s:
            outcome = Outcome.STUCK if seen.state is PowerState.ON else Outcome.FAILED
            detail = f"it did not come up within {boot_s:.0f} s ({seen.words})"
            return Step(way.name, Act.VERIFY, outcome, detail, took_s)


async def _go_down(
    way: PowerDriver, devices: Sequence[PowerDriver], silent: Verify, limit_s: float, poll_s: float
) -> Step:
    """Wait until a device says off; where none knows, until `silent` returns."""
    began_s = monotonic()
    if any(device.knows_state for device in devices):
        step = await _confirm(way, devices, PowerState.OFF, limit_s, poll_s)
        outcome = Outcome.DONE if step.outcome is Outcome.CONFIRMED else Outcome.NOT_CONFIRMED
        return Step(way.name, Act.CONFIRM, outcome, step.detail, step.took_s)
    try:
        async with asyncio.timeout(limit_s):
            await silent()
    except TimeoutError:
        detail = f"it still answers after {limit_s:.0f} s"
        return Step(way.name, Act.CONFIRM, Outcome.NOT_CONFIRMED, detail, monotonic() - began_s)
    return Step(way.name, Act.CONFIRM, Outcome.DONE, "it is silent", monotonic() - began_s)


def _pauses(longest_s: float) -> Iterator[float]:
    """Pauses between looks that grow to `longest_s`."""
    pause_s = min(longest_s, FIRST_POLL_S)
    while True:
        yield pause_s
        pause_s = min(longest_s, pause_s * 1.5)


async def _cancel(task: asyncio.Future[None]) -> None:
    """Cancel and wait, so that nothing of the task goes on after the step."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
