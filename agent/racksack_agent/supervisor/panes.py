"""The pane of an attempt: what runs in it, how the supervisor uses its terminal, and how it is closed.

The supervisor is forked from a warm process and so is no child of tmux or screen: the program in the pane only keeps
the terminal there. Ctrl-C in it is passed on to the supervisor, and by that to the job's process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import List, NamedTuple

from racksack_agent import processes
from racksack_agent.home import AttemptFolder

# It waits at a pipe into which nobody writes; $0 is the attempt's folder. The supervisor's process id is in `lock`. A
# pane whose folder is gone ends.
_KEEPER = """
trap 'kill -s INT "$(cat "$0/lock")"' INT
trap '' TSTP QUIT
while [ -p "$0/pane" ]; do read -r nothing <"$0/pane"; done
"""
_TELL = 'echo "$(tty) $$" >"$0/pane.new"; mv "$0/pane.new" "$0/pane.told"\n'  # screen does not say it itself


class Pane(NamedTuple):
    """The terminal's path and the process in it."""

    terminal: str
    pid: int


def keeper(folder: AttemptFolder, tells: bool = False) -> List[str]:
    """The program of a pane; with `tells` it writes down its terminal and process id."""
    return ["/bin/sh", "-c", (_TELL if tells else "") + _KEEPER, folder.path]


def open_terminal(pane: Pane, flags: int) -> int:
    """The pane's terminal, or nothing readable or writable if it has gone already."""
    try:
        return os.open(pane.terminal, flags | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return os.open(os.devnull, flags | os.O_CLOEXEC)


def open_stdin(pane: Pane, interactive: bool) -> int:
    """What the job reads from: nothing, so that a program that asks a question ends instead of waiting for an answer
    until its time limit; the pane's terminal for an interactive one.
    """
    return open_terminal(pane, os.O_RDWR) if interactive else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def close(pane: Pane, folder: AttemptFolder) -> None:
    """End the pane's program, and with it the session. Its process id is used only while it is still that program."""
    if os.fsencode(folder.path) in processes.read_proc(pane.pid, "cmdline").split(b"\0"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pane.pid, signal.SIGKILL)
