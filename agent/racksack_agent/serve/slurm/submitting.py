"""Submits attempts to Slurm: one sbatch each, a few at a time.

The folder is made first, and the name of the batch job is in it: whatever becomes of sbatch, of this process or of
the answer, the job is found again by that name. What Slurm refuses is taken back; where there is no clear answer the
folder stays, and `SlurmAttempts` finds out.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Collection, Dict, Optional

from racksack_agent.home import Home
from racksack_agent.serve import attempt_records
from racksack_agent.serve.slurm import script
from racksack_agent.serve.slurm.attempts import SlurmAttempts
from racksack_agent.serve.slurm.commands import Commands, SlurmError
from racksack_agent.serve.slurm.queue import Queue
from racksack_agent.slurm import folder as files

_AT_ONCE = 4


class Submitter:
    """Hands attempts of one home to Slurm."""

    def __init__(self, home: Home, key: str, commands: Commands, queue: Queue, attempts: SlurmAttempts) -> None:
        self._home = home
        self._key = key
        self._commands = commands
        self._queue = queue
        self._attempts = attempts

    def complete(self, order: Dict[str, Any]) -> None:
        """What an order needs to become a batch job: its name, and a time limit."""
        order["slurm"]["job_name"] = script.new_name(self._key, order["attempt"])
        order["time_limit_s"] = script.limit_s(order)

    def start(self, names: Collection[str]) -> None:
        """Submit these. One that Slurm refuses has ended: it could not be prepared here."""
        self._attempts.submitting |= set(names)
        try:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sbatch") as pool:
                said = dict(zip(names, pool.map(self._submit, names)))
        finally:
            self._attempts.submitting -= set(names)
            self._queue.expect_change()
        for name, sentence in said.items():
            if sentence:
                self._attempts.give_up(self._home.attempt(name), sentence)

    def again(self, names: Collection[str]) -> None:
        """Submit those of which Slurm has no job."""
        for name in names:
            folder = self._home.attempt(name)
            self._attempts.unsubmitted.pop(name, None)
            if attempt_records.launch_of(folder) and not files.job_of(folder) and not files.claim_of(folder):
                self.start([name])

    def _submit(self, name: str) -> Optional[str]:
        folder = self._home.attempt(name)
        order = attempt_records.launch_of(folder)
        if order is None:
            return "its folder could not be read back"
        try:
            number = self._commands.submit(script.options(folder, order), script.script(folder, order))
            files.note_submitted(folder, number)
        except SlurmError as problem:
            return f"Slurm refused it: {problem}" if problem.is_final else None
        except OSError:
            return None  # submitted; the number is found by the name
        finally:
            self._attempts.submitted_s[name] = time.monotonic()
        return None
