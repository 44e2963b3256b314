"""Which cores an attempt is pinned to: whole ones, each to one attempt, next to each other where possible.

Attempts that ask for a part of a core, or for more than is left (a configuration may pretend a larger machine), are
not pinned; the kernel then shares the cores among them.
"""

from __future__ import annotations

import os
from typing import Dict, Sequence

from racksack_agent.home import Home
from racksack_agent.serve import attempt_records


class Cores:
    """The cores of this node and who has them. Used by one thread, under the launch lock."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._taken: Dict[str, Sequence[int]] = {}

    def refresh(self) -> None:
        """Look at which attempts live, those that another `serve` launched included."""
        living = set()
        for name in os.listdir(self._home.attempts):
            folder = self._home.attempt(name)
            if os.path.exists(folder.exit):
                continue
            living.add(name)
            if name not in self._taken:
                self._taken[name] = (attempt_records.launch_of(folder) or {}).get("cpu_ids", ())
        self._taken = {name: taken for name, taken in self._taken.items() if name in living}

    def choose(self, attempt: str, cpus: float) -> list[int]:
        """The cores for an attempt; none if it is not to be pinned."""
        taken = {core for cores in self._taken.values() for core in cores}
        chosen = pick([core for core in allowed_cores() if core not in taken], cpus)
        self._taken[attempt] = chosen
        return chosen


def pick(free: Sequence[int], cpus: float) -> list[int]:
    """`cpus` of the free cores: the first run of neighbours that is long enough, else the first ones."""
    count = int(cpus)
    if count != cpus or not 0 < count <= len(free):
        return []
    for start in range(len(free) - count + 1):
        run = list(free[start : start + count])
        if run[-1] - run[0] == count - 1:
            return run
    return list(free[:count])


def allowed_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))
