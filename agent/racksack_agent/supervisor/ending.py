"""The steps of an end: whom to signal, with what, and when; and the moment from which everything is killed.

A program that was asked to end may need its helpers to do so: data loaders, a pool that holds the state to be saved. So
the program itself is asked first, and the rest of its processes only in the last seconds of the grace, or when it has
ended.
"""

from __future__ import annotations

from typing import List, NamedTuple, Optional

from racksack_agent.supervisor.end import End

_HELPERS_S = 5.0  # of the grace is for the other processes, of a short one half
_LEFTOVER_GRACE_S = 5.0


class Step(NamedTuple):
    """A signal that is due at a time (monotonic seconds): for the program alone, or for the whole tree."""

    at_s: float
    number: int
    whole: bool


class Ending:
    """An end that has begun: what it makes of the attempt, its steps, and when patience is over."""

    __slots__ = ("end", "kill_at_s", "steps")

    def __init__(self, end: Optional[End], steps: List[Step], kill_at_s: float) -> None:
        self.end = end  # None: the program ended by itself and left processes behind
        self.steps = steps
        self.kill_at_s = kill_at_s

    def take_due(self, now_s: float, program_has_ended: bool) -> List[Step]:
        """The steps to do now, each once. When the program has ended, what concerns it alone is dropped and the rest
        is due at once.
        """
        if program_has_ended:
            due, self.steps = [step for step in self.steps if step.whole], []
            return due
        due = [step for step in self.steps if step.at_s <= now_s]
        self.steps = [step for step in self.steps if step.at_s > now_s]
        return due


def steps_of(end: End, number: int, now_s: float, grace_s: float, warn_s: float = 0.0, warn_signal: int = 0) -> Ending:
    """An end that was asked for: perhaps a warning first, then the signal, then the grace, then SIGKILL."""
    steps = [Step(now_s, warn_signal, whole=False)] if warn_s else []
    asked_s = now_s + warn_s
    kill_at_s = asked_s + grace_s
    steps += [
        Step(asked_s, number, whole=False),
        Step(kill_at_s - min(_HELPERS_S, grace_s / 2), number, whole=True),
    ]
    return Ending(end, steps, kill_at_s)


def leftovers(now_s: float, grace_s: float) -> Ending:
    """The end of what a program left behind."""
    from signal import SIGTERM

    return Ending(None, [Step(now_s, SIGTERM, whole=True)], now_s + min(_LEFTOVER_GRACE_S, grace_s))
