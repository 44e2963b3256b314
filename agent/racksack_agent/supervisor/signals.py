"""The supervisor's one place to wait: signals are blocked and taken one by one, so no handler ever interrupts
anything.
"""

from __future__ import annotations

import signal
from typing import Optional

CHILD = signal.SIGCHLD
STOP = signal.SIGUSR1  # `serve` wrote stop.json
DOWN = signal.SIGTERM  # the machine is going down, or somebody wants to end the supervisor by hand
INTERRUPT = signal.SIGINT  # Ctrl-C in the pane; it is for the job

_IGNORED = (signal.SIGHUP, signal.SIGUSR2, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTOU, signal.SIGPIPE)
_TAKEN = (CHILD, STOP, DOWN, INTERRUPT)


def block() -> None:
    """Begin to hold signals back; `take` hands them out."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN + _IGNORED)


def take(timeout_s: float) -> Optional[int]:
    """Wait for the next signal; None when the time is up."""
    info = signal.sigtimedwait(_TAKEN, max(0.0, timeout_s))
    return None if info is None else info.si_signo


def number_of(name: str) -> int:
    """The number of "TERM", "SIGINT" or "2". Raises ValueError when there is no such signal."""
    text = name.upper()
    known = {one.name: one.value for one in signal.Signals}
    known.update({str(one.value): one.value for one in signal.Signals})
    number = known.get(text) or known.get("SIG" + text)
    if number is None:
        raise ValueError(f"there is no signal {name!r}")
    return number


def name_of(number: int) -> str:
    """The usual name: SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
