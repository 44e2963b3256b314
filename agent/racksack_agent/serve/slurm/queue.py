"""What Slurm says of our jobs, looked at by one thread with one squeue for all of them.

Looked at every two seconds while something changes, then ever more seldom, up to every thirty: squeue costs the
cluster's controller work, which many users share. Nothing is asked while no attempt waits for an answer.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Callable, Dict, List, NamedTuple, Optional

from racksack_agent.serve.slurm.commands import Commands, SlurmError, SlurmJob

FIRST_S, MOST_S = 2.0, 30.0
_GROWTH = 1.3


class Picture(NamedTuple):
    """What squeue said. `asked_s`: when it was asked (monotonic seconds): what was submitted later may be missing."""

    asked_s: float
    jobs: Dict[str, List[SlurmJob]]  # by name


class Queue:
    """The latest picture. `is_needed` says whether anybody waits for another one."""

    def __init__(
        self, commands: Commands, prefix: str, is_needed: Callable[[], bool], first_s: float = FIRST_S
    ) -> None:
        self._commands = commands
        self._prefix = prefix
        self._is_needed = is_needed
        self._first_s = first_s
        self._every_s = first_s
        self._wake = threading.Event()
        self._said = ""
        self._thread: Optional[threading.Thread] = None
        self.picture: Optional[Picture] = None
        self.problem = ""  # why the last look failed

    def start(self) -> None:
        """Begin to look."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="squeue", daemon=True)
            self._thread.start()

    def expect_change(self) -> None:
        """Something was submitted or cancelled, or an answer is wanted: look as often as is decent for a while."""
        self._every_s = self._first_s
        self._wake.set()

    def look(self) -> Picture:
        """Ask now. Raises SlurmError."""
        asked_s = time.monotonic()
        jobs: Dict[str, List[SlurmJob]] = {}
        for job in self._commands.queue():
            if job.name.startswith(self._prefix):
                jobs.setdefault(job.name, []).append(job)
        picture = Picture(asked_s, jobs)
        self._every_s = (
            min(MOST_S, self._every_s * _GROWTH)
            if self.picture is not None and self.picture.jobs == jobs
            else self._first_s
        )
        self.picture = picture
        return picture

    def _run(self) -> None:
        looked_s = float("-inf")
        while True:
            self._wake.clear()
            left_s = looked_s + self._every_s - time.monotonic()
            if left_s > 0:
                self._wake.wait(left_s)
            elif self._is_needed():
                self._try_to_look()
                looked_s = time.monotonic()
            else:
                self._wake.wait(MOST_S)

    def _try_to_look(self) -> None:
        try:
            self.look()
        except SlurmError as problem:
            self.problem = str(problem)
            self._every_s = min(MOST_S, self._every_s * _GROWTH)
        else:
            self.problem = ""
        if self.problem != self._said:
            self._said = self.problem
            print(f"squeue: {self.problem or 'it answers again'}", file=sys.stderr, flush=True)
