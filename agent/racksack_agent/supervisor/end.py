"""How an attempt ends: the result as a value, and the request to end it."""

from __future__ import annotations

import os
import signal

from racksack_agent import records
from racksack_agent.problems import PrepareError
from racksack_agent.supervisor import signals
from racksack_agent.supervisor.terminal_echo import Echo

_SENTENCES = {
    "cancelled": "it was cancelled",
    "timeout": "it was stopped at its time limit",
    "fenced": "a newer attempt took its place",
    "down": "the node is going down, or the attempt's supervisor was ended from outside",
}
_OUTCOMES = {"timeout": "timeout", "down": "lost"}
DEFAULT_GRACE_S = 10.0


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
    """Whether somebody wants this attempt to end: stop.json, announced by a signal, or the signal of a machine going
    down.
    """

    def __init__(self, path: str, echo: Echo) -> None:
        self.path = path
        self._echo = echo
        self.reason: str | None = None
        self.grace_s = DEFAULT_GRACE_S
        self.signal: int = signal.SIGTERM

    @property
    def requested(self) -> bool:
        """True from the first request on."""
        return self.reason is not None

    @property
    def outcome(self) -> str:
        """The outcome of an attempt that ended because of this request."""
        return _OUTCOMES.get(self.reason or "", "cancelled")

    @property
    def sentence(self) -> str:
        """Why it ended."""
        return _SENTENCES.get(self.reason or "", f"it was stopped: {self.reason}")

    def end(self) -> End | None:
        """The end that this request makes of an attempt whose program never ran; None without a request."""
        return End(self.outcome, self.sentence) if self.requested else None

    def wait(self, timeout_s: float) -> None:
        """Wait for a signal or the time; take in what a signal announces. Meanwhile the pane shows what there is."""
        number = signals.take(timeout_s)
        if timeout_s and number is None:
            self._echo.copy()
        while number is not None:
            self._heed(number)
            number = None if number == signals.CHILD else signals.take(0)

    def check(self, wait_s: float = 0.0) -> None:
        """Raise PrepareError if the attempt is to end, or as soon as it is within `wait_s` (a child's end ends the
        wait).
        """
        self.wait(wait_s)
        if self.requested:
            raise PrepareError(self.sentence)

    def read(self) -> bool:
        """Look for stop.json; returns whether the attempt is to end. A later, shorter grace replaces an earlier one."""
        request = records.read(self.path) if os.path.lexists(self.path) else None  # `read` imports json
        if request is None:
            return self.requested
        grace_s = float(request["grace_s"])
        self.grace_s = min(self.grace_s, grace_s) if self.requested else grace_s
        self.signal = signals.number_of(request["signal"])
        self.reason = request["reason"]
        return True

    def _heed(self, number: int) -> None:
        if number == signals.STOP:
            self.read()
        elif number == signals.DOWN and not self.requested:
            self.reason = "down"
