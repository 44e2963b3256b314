"""Memory of a runner's workers: who was ended for it, and, where the kernel sets no limit, whom to end.

With a cgroup the kernel ends one process, and its counter tells that it did. Without, the runner looks: before the
supervisor would end the whole attempt, the worker that takes most goes.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Optional, Sequence

from racksack_agent.supervisor import limits
from racksack_agent.sweep_runner.slot import Slot

_SHARE = 0.9  # of the limit; the supervisor ends the attempt at 1.0
_EVERY_S = 0.12
_COST_MAX = 0.03


class Memory:
    """The limit of one attempt."""

    def __init__(self, limit: Dict[str, Any], ram_bytes: int) -> None:
        self._folder = limit["path"] if ram_bytes > 0 else ""
        self._file = {"cgroup1": limits.CgroupV1.events_file, "scope": limits.CgroupV2.events_file}.get(limit["kind"])
        self._ram_bytes = ram_bytes
        self._kills = self.kills()
        self._next_s = 0.0

    @property
    def is_watched(self) -> bool:
        """Whether nobody but us limits memory."""
        return self._ram_bytes > 0 and not (self._folder and self._file and limits.read(self._path()))

    def _path(self) -> str:
        return f"{self._folder}/{self._file}"

    def kills(self) -> int:
        """How many processes the kernel has ended for memory."""
        if not self._folder or not self._file:
            return 0
        for line in limits.read(self._path()).splitlines():
            name, _, value = line.partition(b" ")
            if name == b"oom_kill":
                return int(value)
        return 0

    def was_kill(self) -> bool:
        """Whether the kernel has ended one since the last time this was asked."""
        kills = self.kills()
        more = kills > self._kills
        self._kills = min(kills, self._kills + 1)
        return more

    def look(self, slots: Sequence[Slot], now_s: float) -> Optional[Slot]:
        """The slot whose worker has to go, or None."""
        if now_s < self._next_s:
            return None
        living = [slot for slot in slots if slot.process is not None and slot.channel is not None]
        used = {slot.number: slot.rss_bytes() for slot in living}
        found = None
        if sum(used.values()) > self._ram_bytes * _SHARE:
            used = {slot.number: slot.rss_bytes(proportional=True) for slot in living}
            if sum(used.values()) > self._ram_bytes * _SHARE:
                found = max(living, key=lambda slot: used[slot.number])
        self._next_s = now_s + max(_EVERY_S, (time.monotonic() - now_s) / _COST_MAX)
        return found
