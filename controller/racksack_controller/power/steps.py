"""One step of a ladder, and what steps are made of: asking a way, and looking at the devices that know the state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from racksack_controller.power.driver import PowerDriver, PowerError, PowerNotAllowed, PowerState

FIRST_POLL_S = 0.5


class Act(StrEnum):
    """What a step did. `CONFIRM`: a device was asked; `VERIFY`: the node itself came up, or fell silent."""

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


async def ask(way: PowerDriver, act: Act) -> Step:
    """Ask one way for one thing."""
    began_s = monotonic()
    call = {Act.ON: way.on, Act.SOFT_OFF: way.soft_off, Act.HARD_OFF: way.hard_off}[act]
    try:
        await call()
    except PowerError as error:
        unable = isinstance(error, PowerNotAllowed)
        outcome = Outcome.SKIPPED if unable else Outcome.FAILED
        return Step(way.name, act, outcome, str(error), monotonic() - began_s, error)
    return Step(way.name, act, Outcome.ACCEPTED, f"{way.name} accepted", monotonic() - began_s)


def judged(
    way: PowerDriver,
    devices: Sequence[PowerDriver],
    seen: Witness,
    took_s: float,
    limit_s: float,
) -> Step | None:
    """What a look at the devices says about a request to switch on, or None when it is to be looked again."""
    if seen.state is PowerState.ON:
        return Step(way.name, Act.CONFIRM, Outcome.CONFIRMED, seen.words, took_s)
    if not any(device.knows_state for device in devices):
        return Step(way.name, Act.CONFIRM, Outcome.SKIPPED, seen.words, took_s)
    if took_s >= limit_s:
        outcome = Outcome.SKIPPED if seen.state is None else Outcome.NOT_CONFIRMED
        return Step(way.name, Act.CONFIRM, outcome, f"after {took_s:.0f} s {seen.words}", took_s)
    return None


def pauses(longest_s: float) -> Iterator[float]:
    """Pauses between looks that grow to `longest_s`."""
    pause_s = min(longest_s, FIRST_POLL_S)
    while True:
        yield pause_s
        pause_s = min(longest_s, pause_s * 1.5)
