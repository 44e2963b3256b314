"""Finds out how memory can be limited on this node, by trying it.

In this order: a delegated systemd scope (cgroup version 2), a memory cgroup of version 1 (as root), and
else the memory of each attempt is watched. See `limits` for what is done with the choice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Dict, Optional, Sequence

from racksack_agent.home import Home
from racksack_agent.sessions import home_key
from racksack_agent.supervisor import limits

_TRY_S = 5.0
_PROBE_BYTES = 64 << 20


class LimitChoice:
    """The way of this node."""

    def __init__(self, kind: str, folder: str, key: str) -> None:
        self.kind = kind
        self._folder = folder
        self._key = key

    def of(self, attempt: str) -> Dict[str, str]:
        """What the supervisor of an attempt needs to know."""
        return {"kind": self.kind, "path": f"{self._folder}/{attempt}" if self._folder else ""}

    def close(self) -> None:
        """Remove the folder of all attempts' groups, if it is empty."""
        if self._folder:
            limits.remove_group(self._folder)

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """The command of the fork server: inside a scope where that is the way."""
        if self.kind != "scope":
            return list(argv)
        return [*scope_command(f"racksack-{self._key}-{os.getpid()}-{time.time_ns()}"), *argv]


def choose(home: Home, wanted: Optional[str]) -> LimitChoice:
    """Try each way, or take the wanted one unseen."""
    key = home_key(home)
    folder = memory_mount()
    if wanted == "scope" or (wanted is None and scope_works(key)):
        return LimitChoice("scope", "", key)
    if folder and wanted in (None, "cgroup1"):
        ours = f"{folder}/racksack-{os.getuid()}-{key}"
        if group_works(ours):
            return LimitChoice("cgroup1", ours, key)
    return LimitChoice("watch", "", key)


def scope_command(unit: str, user: Optional[bool] = None) -> list[str]:
    """systemd-run with a scope that we may divide; it executes the program in place."""
    as_user = os.getuid() != 0 if user is None else user
    who = ["--user"] if as_user else []
    return ["systemd-run", *who, "--scope", "--quiet", "--collect", f"--unit={unit}", "--property=Delegate=yes", "--"]


def scope_works(key: str, root: str = "/sys/fs/cgroup") -> bool:
    """Whether systemd runs here, gives out scopes, and the kernel has the version 2 memory controller."""
    controllers = limits.read(root + "/cgroup.controllers").split()
    if b"memory" not in controllers or not os.path.isdir("/run/systemd/system") or not shutil.which("systemd-run"):
        return False
    try:
        done = subprocess.run(
            [*scope_command(f"racksack-{key}-try-{os.getpid()}"), "true"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRY_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def memory_mount(mounts: str = "/proc/mounts") -> str:
    """Where the version 1 memory controller is mounted; empty where it is not."""
    with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split()
            if words[2] == "cgroup" and "memory" in words[3].split(","):
                return words[1]
    return ""


def group_works(folder: str) -> bool:
    """Whether a group with a limit can be made there."""
    try:
        os.makedirs(folder, exist_ok=True)
        limits.CgroupV1(f"{folder}/try-{os.getpid()}", _PROBE_BYTES).close()
    except OSError:
        return False
    return True
