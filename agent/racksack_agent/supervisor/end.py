"""How an attempt ends: the result as a value, and the request to end it."""

from __future__ import annotations

import os
import signal
import time

from racksack_agent import records
from racksack_agent.problems import PrepareError
from racksack_agent.supervisor import signals
from racksack_agent.supervisor.terminal_echo import Echo

_SENTENCES = {
    "cancelled": "it was cancelled",
    "timeout": "it was stopped at its time limit",
    "fenced": "a newer attempt took its place",
    "scheduler": "Slurm ended it",
}
_DOWN = "the node is going down, or the attempt's supervisor was ended from outside"
DEFAULT_GRACE_S = 10.0
SCHEDULER_GRACE_S = 10.0  # Slurm kills 30 s after it has asked (KillWait); outputs are gathered in the rest
LOOK_S = 2.0  # how often stop.json is looked for where no signal may announce it


class End:
    """The result of an attempt: one of the outcomes of an AttemptReport and what goes with it."""

    __slots__ = ("at_fault", "exit_code", "outcome", "reason", "signal")

    def __init__(
        self,
        outcome: str,
        reason: str,
        exit_code: int | None = None,
        signal: int | None = None,
        at_fault: str = "job",
    ) -> None:
        self.outcome = outcome
        self.reason = reason
        self.exit_code = exit_code
        self.signal = signal
        self.at_fault = at_fault


class StopRequest:
    """Whether somebody wants this attempt to end: stop.json, announced by a signal. And whether the machine goes down:
    its signal ends a preparation, but not a program, which has the same signal and its own time to obey it.
    """

    def __init__(self, path: str, echo: Echo, *, under_scheduler: bool = False) -> None:
        """`under_scheduler`: SIGTERM is a scheduler's request to end, and news of stop.json may not reach us."""
        self.path = path
        self._under_scheduler = under_scheduler
        self._next_look_s = 0.0
        self._echo = echo
        self.reason: str | None = None
        self.grace_s = DEFAULT_GRACE_S
        self.signal: int = signal.SIGTERM
        self.warn_s = 0.0
        self._is_new = False
        self._down_at_s: float | None = None
        self._interrupted = False

    @property
    def requested(self) -> bool:
        """True from the first request on."""
        return self.reason is not None

    @property
    def outcome(self) -> str:
        """The outcome of an attempt that ended because of this request."""
        return {"timeout": "timeout", "scheduler": "lost"}.get(self.reason or "", "cancelled")

    @property
    def sentence(self) -> str:
        """Why it ended."""
        return _SENTENCES.get(self.reason or "", f"it was stopped: {self.reason}")

    def is_new(self) -> bool:
        """Whether there is a request that differs from the one before; true once for each."""
        is_new, self._is_new = self._is_new, False
        return is_new

    def took_interrupt(self) -> bool:
        """Whether Ctrl-C was typed into the pane; true once for each."""
        interrupted, self._interrupted = self._interrupted, False
        return interrupted

    def goes_down_within(self, within_s: float) -> bool:
        """Whether the signal of a machine that goes down came within the last seconds."""
        return self._down_at_s is not None and time.monotonic() - self._down_at_s < within_s

    def end(self) -> End | None:
        """The end that this makes of an attempt whose program never ran; None without a request."""
        if self.requested:
            return End(self.outcome, self.sentence)
        return End("lost", _DOWN) if self._down_at_s is not None else None

    def wait(self, timeout_s: float) -> None:
        """Wait for a signal or the time; take in what a signal announces. Meanwhile the pane shows what there is."""
        number = signals.take(timeout_s)
        if timeout_s and number is None:
            self._echo.copy()
        if self._under_scheduler and time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + LOOK_S
            self.read()
        while number is not None:
            self._heed(number)
            number = None if number == signals.CHILD else signals.take(0)

    def check(self, wait_s: float = 0.0) -> None:
        """Raise PrepareError if the attempt is to end, or as soon as it is within `wait_s` (a child's end ends the
        wait).
        """
        self.wait(wait_s)
        end = self.end()
        if end is not None:
            raise PrepareError(end.reason)

    def read(self) -> bool:
        """Look for stop.json; returns whether the attempt is to end. A later, shorter grace replaces an earlier one.

        One that is damaged still says that the attempt is to end, and how then is as usual.
        """
        if not os.path.isfile(self.path):
            return self.requested
        before = (self.reason, self.grace_s, self.signal, self.warn_s)
        request = records.read(self.path) or {}
        try:
            reason, grace_s = str(request["reason"]), float(request["grace_s"])
            number, warn_s = signals.number_of(str(request["signal"])), float(request.get("warn_s", 0.0))
        except (KeyError, TypeError, ValueError):
            reason, grace_s = self.reason or "cancelled", DEFAULT_GRACE_S
            number, warn_s = int(signal.SIGTERM), 0.0
        self.grace_s = min(self.grace_s, grace_s) if self.requested else grace_s
        self.signal, self.warn_s, self.reason = number, warn_s, reason
        self._is_new = self._is_new or before != (self.reason, self.grace_s, self.signal, self.warn_s)
        return True

    def _heed(self, number: int) -> None:
        if number == signals.STOP:
            self.read()
        elif number == signals.INTERRUPT:
            self._interrupted = True
        elif number == signals.DOWN:
            self._down_at_s = time.monotonic()
            if self._under_scheduler and not self.requested:
                self.reason, self.grace_s, self._is_new = "scheduler", SCHEDULER_GRACE_S, True
