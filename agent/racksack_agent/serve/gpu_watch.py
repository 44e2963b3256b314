"""Looks at the GPUs again and again: which are set aside, and what each uses.

A device is set aside as soon as one look finds a fault, or a process that is no job's with much of its memory; clocks
that read `N/A` have to do so three times in a row. It comes back after two good looks in a row.
"""

from __future__ import annotations

import os
import pwd
import sys
import threading
from typing import Any, Callable, Collection, Dict, List, Optional, Set

from racksack_agent.serve import gpus, kernel_log
from racksack_agent.serve.gpu_tools import MIB, Gpu
from racksack_agent.serve.nvidia_health import Health

EVERY_S = 60.0
GOOD_LOOKS = 2
NO_CLOCK_LOOKS = 3
FOREIGN_BYTES = 1024 * MIB  # of a device's memory, in use by others: less is a desktop's

OurProcesses = Callable[[], Collection[int]]
Held = Callable[[], Collection[str]]
"""The uuids of the devices that attempts hold."""


class GpuWatch:
    """The devices as last seen. `state` may be asked from any thread."""

    def __init__(self, ours: OurProcesses, held: Held) -> None:
        self._ours, self._held = ours, held
        self._lock = threading.Lock()
        self._state: Optional[Dict[str, Any]] = None
        self._faults: Dict[str, str] = {}  # of devices that are set aside
        self._good: Dict[str, int] = {}  # good looks in a row, of devices that are set aside
        self._no_clock: Dict[str, int] = {}
        self._thread: Optional[threading.Thread] = None

    def state(self, fresh: bool = False) -> Dict[str, Any]:
        """`gpus` (those that jobs may have), `set_aside`, `problems` and `use`. The first call looks; while there are
        devices, a thread looks again every minute. Raises OSError.
        """
        with self._lock:
            if self._state is None or fresh:
                self._state = self._look()
            if self._thread is None and (self._state["gpus"] or self._state["set_aside"]):
                self._thread = threading.Thread(target=self._run, name="gpus", daemon=True)
                self._thread.start()
            return self._state

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY_S):
            try:
                found = self._look()
            except OSError as problem:  # a limit was reached; what was seen last stands
                print(f"the GPUs could not be checked: {problem}", file=sys.stderr)
                continue
            with self._lock:
                self._state = found

    def _look(self) -> Dict[str, Any]:
        found = gpus.look()
        ours, held = set(self._ours()), set(self._held())
        xids = kernel_log.recent_xids() if found.health else {}
        for gpu in found.devices:
            health = found.health.get(gpu["uuid"])
            fault = gpu["fault"] or self._of_clock(gpu, health) or _of_xid(health, xids)
            fault = fault or foreign_use(health, ours, is_held=gpu["uuid"] in held)
            gpu["fault"] = self._settled(gpu["uuid"], fault)
        return {
            "gpus": [gpu for gpu in found.devices if not gpu["fault"]],
            "set_aside": [gpu for gpu in found.devices if gpu["fault"]],
            "problems": found.problems,
            "use": [_use(gpu, found.health.get(gpu["uuid"])) for gpu in found.devices],
        }

    def _of_clock(self, gpu: Gpu, health: Optional[Health]) -> str:
        count = 0 if health is None or health.has_clock else self._no_clock.get(gpu["uuid"], 0) + 1
        self._no_clock[gpu["uuid"]] = count
        return "has not reported its clock for minutes; it may need a reset" if count >= NO_CLOCK_LOOKS else ""

    def _settled(self, uuid: str, fault: str) -> str:
        """The fault that counts: a device that was set aside has to look well twice."""
        if fault:
            self._faults[uuid], self._good[uuid] = fault, 0
            return fault
        if uuid not in self._faults:
            return ""
        self._good[uuid] += 1
        if self._good[uuid] >= GOOD_LOOKS:
            del self._faults[uuid], self._good[uuid]
            return ""
        return self._faults[uuid]


def foreign_use(health: Optional[Health], ours: Set[int], *, is_held: bool) -> str:
    """Whether others than our jobs have much of a device's memory, as the end of a sentence about it."""
    if health is None or health.is_mig:
        return ""
    others = [one for one in health.processes if one[0] not in ours]
    used = sum(one[1] for one in others)
    if used >= FOREIGN_BYTES:
        pid, _bytes, name = max(others, key=lambda one: one[1])
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        program = os.path.basename(name) or "a program"
        return f"is in use by process {pid} ({program} of {_user(pid)}){more}, with {used // MIB} MiB of its memory"
    used = health.used_bytes or 0
    if not health.processes and not is_held and used >= FOREIGN_BYTES:
        return f"has {used // MIB} MiB of its memory in use by processes that this account cannot see"
    return ""


def _user(pid: int) -> str:
    try:
        user = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return "another machine's user"
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _of_xid(health: Optional[Health], xids: Dict[str, str]) -> str:
    if health is None:
        return ""
    for address, words in xids.items():
        if kernel_log.matches(health.bus_id, address):
            return f"has {words} in the kernel log; it may need a reset"
    return ""


def _use(gpu: Gpu, health: Optional[Health]) -> Dict[str, Any]:
    found: Dict[str, Any] = {"uuid": gpu["uuid"]}
    if health is not None:
        found.update(
            use=health.use, used_bytes=health.used_bytes, watts=health.watts, celsius=health.celsius
        )  # fmt: skip
    return found


def sentences(state: Dict[str, Any]) -> List[str]:
    """Everything about the devices that is not as it should be."""
    return [*state["problems"], *gpus.faults(state["set_aside"])]
