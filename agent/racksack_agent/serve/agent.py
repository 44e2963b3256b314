"""What one `serve` holds: the home, what this node can do, and what it has seen of the attempts."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from typing import Iterator, List, Optional

from racksack_agent import sessions
from racksack_agent.boot import boot_id
from racksack_agent.home import Home
from racksack_agent.serve import executable, limit_choice
from racksack_agent.serve.attempts import Attempts
from racksack_agent.serve.cores import Cores
from racksack_agent.serve.fork_client import ForkServer
from racksack_agent.serve.gpu_watch import GpuWatch
from racksack_agent.serve.locking import locked
from racksack_agent.serve.slurm.side import SlurmSide
from racksack_agent.serve.snapshots import Snapshots


class Agent:
    """The parts that the operations work with."""

    def __init__(
        self, home: Home, session: Optional[str], limit: Optional[str], slurm: Optional[SlurmSide] = None
    ) -> None:
        """`slurm`: attempts are batch jobs of its cluster, and do not run on this machine."""
        self.home = home
        self.slurm = slurm
        self.boot_id = boot_id()
        self.sessions = None if slurm else sessions.open_sessions(home, session)
        self.attempts = slurm.attempts if slurm else Attempts(home, self.boot_id, self.sessions)
        self.snapshots = Snapshots(home, self.boot_id)
        self.cores = Cores(home)
        self.forkserver = ForkServer(home)
        self._limit_kind = "watch" if slurm else limit
        self.gpus = GpuWatch(self._processes, self._held_gpus)

    @functools.cached_property
    def limit(self) -> limit_choice.LimitChoice:
        """How memory is limited on this node; found out when first needed."""
        return limit_choice.choose(self.home, self._limit_kind)

    def _processes(self) -> List[int]:
        return [pid for found in self.attempts.living_processes().values() for pid in found]

    def _held_gpus(self) -> List[str]:
        living = [one for one in self.attempts.reports() if one["state"] != "ended"]
        return [uuid for one in living for uuid in one.get("gpu_uuids") or ()]

    def close(self) -> None:
        """When no attempt lives any more, take away what only they needed: the sessions' server and our cgroup.

        Under the launch lock, since another `serve` may be about to start one; while it is held nothing is done.
        """
        with contextlib.suppress(BlockingIOError), launch_lock(self.home, wait=False):
            if any(self.attempts.is_alive(name) for name in self.attempts.names()):
                return
            if self.sessions:
                self.sessions.close()
            if "limit" in vars(self):  # found out in this `serve`
                self.limit.close()

    def uv(self) -> Optional[str]:
        """The uv to use. Looked for each time: it may be pushed while we serve."""
        places = [self.home.root + "/bin/uv", shutil.which("uv"), os.path.expanduser("~/.local/bin/uv")]
        return next(
            (place for place in places if place and os.access(place, os.X_OK) and executable.is_whole(place)), None
        )


@contextlib.contextmanager
def launch_lock(home: Home, wait: bool = True) -> Iterator[None]:
    """Held by the one `serve` that launches or tidies up. Raises OSError, BlockingIOError where not to wait."""
    with locked(home.root + "/launch.lock", wait):
        yield
