"""The processes of a job: all of them, the program among them, and how they are signalled.

They are the descendants of the reaper, see `reaper`. If that one was killed they are ours, as we are the next subreaper
above; if we took over from a supervisor that was killed, they are what has the attempt's variables or is in its
cgroup.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import List, Optional, Protocol

from racksack_agent import processes
from racksack_agent.supervisor import limits, variables
from racksack_agent.supervisor.reaper import Started

_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "busybox")
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
_AWAKE_S = 1.0


class Tally(Protocol):
    """What is added up of the processes that have ended; `status` is that of the program, once it is known."""

    cpu_s: float
    ram_peak_bytes: int
    status: Optional[int]


class Tree:
    """`above`: our own process id where the reaper is our child, None where we took over. Without `started` all of our
    descendants are meant.
    """

    def __init__(self, started: Optional[Started], above: Optional[int], path: str, limit: limits.Limit) -> None:
        self._started = started
        self._above = above
        self._path = path
        self._limit = limit
        self._next_look_s = 0.0
        self._asked: List[List[int]] = []  # by name, see `processes.name_of`
        self._is_followed = started is not None and above is None

    def reap(self, running: Tally) -> bool:
        """Take the results of our own children; True when no process of the job is left."""
        if self._is_followed:
            return not self._reaper_lives() and not self.processes(also_hidden=True)
        while True:
            try:
                process, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if process == 0:
                return False
            if self._started is None or process == self._started.reaper[0]:
                continue  # the reaper has written down its share
            running.cpu_s += usage.ru_utime + usage.ru_stime
            running.ram_peak_bytes = max(running.ram_peak_bytes, usage.ru_maxrss * 1024)
            if self._started.main[:1] == [process]:
                running.status = status

    def _reaper_lives(self) -> bool:
        return self._started is not None and processes.is_alive(self._started.reaper)

    def processes(self, also_hidden: bool = False) -> List[int]:
        """All living processes of the job. `also_hidden`: those that only their cgroup shows, too."""
        parent_of = processes.parents()
        found = set()
        if self._started is not None and self._reaper_lives():
            found.update(processes.below(self._started.reaper[0], parent_of))
        elif self._is_followed:
            found.update(processes.marked(variables.marker(self._path)))
            found.update(processes.with_limit(processes.mark_of(self._path)))
            found.discard(os.getpid())
        if self._above is not None:
            found.update(processes.below(self._above, parent_of))
        if also_hidden:
            found.update(self._limit.left())
        found.difference_update(self._started.reaper[:1] if self._started else ())
        return sorted(found)

    def signal_all(self, number: int) -> None:
        """Signal every process. A stopped one must wake up to end."""
        found = self.processes()
        processes.send(found, number)
        processes.send(found, signal.SIGCONT)

    def signal_program(self, number: int) -> None:
        """See below. Whom that reaches is remembered: the command of a shell outlives it, and is the program then."""
        if self._started is None:
            return
        reached = signal_program(self._started, number)
        if not reached:
            reached = [process for process, _ in filter(processes.is_alive, self._asked)]
            processes.send(reached, number)
        self._asked += [processes.name_of(process) for process in reached]

    def program_has_ended(self) -> bool:
        """Whether none of the processes is left that were signalled as the program."""
        return not any(map(processes.is_alive, self._asked))

    def interrupt(self) -> None:
        """Ctrl-C in the pane: for the foreground, which is the program's process group."""
        if self._started is not None and processes.is_alive(self._started.main):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._started.main[0], signal.SIGINT)

    def keep_awake(self, now_s: float) -> None:
        """Continue the reaper if somebody stopped it: nobody would learn how the program ended."""
        if self._started is not None and now_s >= self._next_look_s:
            self._next_look_s = now_s + _AWAKE_S
            if self._reaper_lives():
                processes.wake(self._started.reaper[0])


def signal_program(started: Started, number: int) -> List[int]:
    """Signal the program, and where it is a shell, what that runs: a shell takes a signal only when its command has
    ended, and would leave it behind unasked if the signal ends it. Returns whom; nobody when it does not run any more.
    """
    if not processes.is_alive(started.main):
        return []
    found = _program(started.main[0])
    processes.send(found, number)
    if number in _ENDING_SIGNALS:
        processes.send(found, signal.SIGCONT)  # a stopped one must wake up to end
    return found


def _program(main: int) -> List[int]:
    parent_of = processes.parents()
    found, pending = [], [main]
    while pending:
        process = pending.pop()
        found.append(process)
        if os.path.basename(processes.program_of(process)) in _SHELLS:
            pending += [child for child, parent in parent_of.items() if parent == process]
    return found
