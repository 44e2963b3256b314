"""What one `serve` holds: the home, what this node can do, and what it has seen of the attempts."""

from __future__ import annotations

import functools
import os
import shutil
from typing import Optional

from racksack_agent import limit_choice, sessions
from racksack_agent.attempts import Attempts
from racksack_agent.cores import Cores
from racksack_agent.home import Home
from racksack_agent.snapshots import Snapshots


class Agent:
    """The parts that the operations work with."""

    def __init__(self, home: Home, session: Optional[str], limit: Optional[str]) -> None:
        self.home = home
        self.boot_id = boot_id()
        self.sessions = sessions.open_sessions(home, session)
        self.attempts = Attempts(home, self.boot_id, self.sessions)
        self.snapshots = Snapshots(home)
        self.cores = Cores(home)
        self._limit_kind = limit

    @functools.cached_property
    def limit(self) -> limit_choice.LimitChoice:
        """How memory is limited on this node; found out when first needed."""
        return limit_choice.choose(self.home, self._limit_kind)

    def uv(self) -> Optional[str]:
        """The uv to use. Looked for each time: it may be pushed while we serve."""
        places = [self.home.root + "/bin/uv", shutil.which("uv"), os.path.expanduser("~/.local/bin/uv")]
        return next((place for place in places if place and os.access(place, os.X_OK)), None)


def boot_id() -> str:
    """Names this start of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
