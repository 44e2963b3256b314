"""The Slurm side of an agent: its commands, the picture of the queue, and the way in."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Sequence

from racksack_agent.home import AttemptFolder, Home
from racksack_agent.serve import attempt_records
from racksack_agent.serve.slurm import canary, cluster, script
from racksack_agent.serve.slurm.attempts import Patience, SlurmAttempts
from racksack_agent.serve.slurm.commands import Commands
from racksack_agent.serve.slurm.queue import FIRST_S, Queue
from racksack_agent.serve.slurm.submitting import Submitter
from racksack_agent.sessions import home_key
from racksack_agent.slurm import folder as files


class SlurmSide:
    """Everything about Slurm that one `serve` holds. `settings`: a JSON object of names and patience, see below."""

    def __init__(self, home: Home, settings: str) -> None:
        given = json.loads(settings or "{}")
        self._home = home
        self.partitions: List[str] = [str(name) for name in given.get("partitions", [])]
        self.commands = Commands(str(given.get("conf", "")))
        key = home_key(home)
        first_s = float(given.get("look_s", FIRST_S))
        self.queue = Queue(self.commands, script.prefix(key), self._is_needed, first_s)
        patience = Patience(**{name: float(given[name]) for name in Patience._fields if name in given})
        self.attempts = SlurmAttempts(home, self.commands, self.queue, patience)
        self.submitter = Submitter(home, key, self.commands, self.queue, self.attempts)

    def _is_needed(self) -> bool:
        """Whether an attempt lives, or what was cancelled may still be there."""
        picture = self.queue.picture
        if picture is None or any(job.state in _SEEN_AS_LIVING for jobs in picture.jobs.values() for job in jobs):
            return True
        return any(self.attempts.is_alive(name) or self.attempts.awaits_word(name) for name in self.attempts.names())

    def inventory(self, disk_bytes: int) -> Dict[str, Any]:
        """See `cluster`: of the partitions that were named, or of all. Raises SlurmError."""
        found = cluster.partitions(self.commands)
        chosen = [one for one in found if one.name in self.partitions] if self.partitions else found
        told = cluster.inventory(chosen, disk_bytes)
        unknown = sorted(set(self.partitions) - {one.name for one in found})
        if unknown:
            told["problems"].append(f"Slurm has no partition {', '.join(unknown)}")
        return told

    def canary(self, options: Sequence[str] = ()) -> Dict[str, Any]:
        """Run one small job that looks at the home: `{ok, problem, host, python, skew_s}`. Waits at most a minute."""
        return canary.run(self._home, self.commands, options)

    def shell(self, folder: AttemptFolder, argv: List[str]) -> List[str]:
        """A command beside a running attempt, on the machine where that runs."""
        return ["srun", f"--jobid={files.job_of(folder)}", "--overlap", "--ntasks=1", "--pty", *argv]

    def has_begun(self, folder: AttemptFolder) -> bool:
        """Whether Slurm has started its job."""
        return files.claim_of(folder) is not None and attempt_records.final_of(folder) is None


_SEEN_AS_LIVING = frozenset(("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"))
