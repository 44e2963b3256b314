"""The supervisor's one place to wait: signals are blocked and taken one by one, so no handler ever interrupts anything.

`_signal` is the C part of `signal`; the Python part imports `enum` and costs 5 ms at each start of an attempt.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

CHILD = _signal.SIGCHLD
STOP = _signal.SIGUSR1  # `serve` wrote stop.json
DOWN = _signal.SIGTERM  # the machine is going down, or somebody ended the supervisor by hand
TERM = _signal.SIGTERM
KILL = _signal.SIGKILL
CONTINUE = _signal.SIGCONT

# The terminal's signals are for the job in the pane's foreground: the supervisor outlives Ctrl-C and a lost terminal.
_IGNORED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTSTP, _signal.SIGTTOU, _signal.SIGPIPE)
_TAKEN = (CHILD, STOP, DOWN)


def block() -> None:
    """Begin to hold signals back; `take` hands them out."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _TAKEN + _IGNORED)


def take(timeout_s: float) -> int | None:
    """Wait for the next signal; None when the time is up."""
    info = _signal.sigtimedwait(_TAKEN, max(0.0, timeout_s))
    return None if info is None else info.si_signo


def number_of(name: str) -> int:
    """The number of "TERM", "SIGINT" or "2". Raises ValueError when there is no such signal."""
    text = name.upper()
    number = int(text) if text.isdigit() else getattr(_signal, text if text.startswith("SIG") else "SIG" + text, None)
    if not isinstance(number, int) or not 0 < number < _signal.NSIG:
        raise ValueError(f"there is no signal {name!r}")
    return number


def name_of(number: int) -> str:
    """The usual name: SIGKILL for 9."""
    names = [name for name in dir(_signal) if name.startswith("SIG") and "_" not in name]
    return next((name for name in sorted(names) if getattr(_signal, name) == number), f"signal {number}")
