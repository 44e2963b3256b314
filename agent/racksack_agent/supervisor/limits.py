"""The memory limit of an attempt, in one of three ways that `serve` chose for this node (see `limit_choice`).

`cgroup1`: a memory cgroup of version 1 (root). `scope`: the session's program was started in a delegated systemd
scope and divides it (version 2). `watch`: neither is there; the memory of all descendants is added up from time to
time, by RSS, and confirmed by PSS before anything is ended, since shared pages would count twice.
"""

from __future__ import annotations

import os
import time
from typing import Callable, List

from racksack_agent import processes

_WATCH_S_MIN = 0.15
_WATCH_SHARE_MAX = 0.03  # of one core may go into looking at /proc
_SAMPLE_S = 0.25
_RUNNER_S = 2.0  # in which a sweep's runner ends the worker that takes too much


class Limit:
    """No limit and no measurement: the base of the others."""

    processes: Callable[[], List[int]] = staticmethod(lambda: processes.descendants(os.getpid()))

    def join(self) -> None:
        """Take the limit on for the calling process and the children that it starts from now on. Raises OSError."""

    def leave(self) -> None:
        """Let the calling process, but not its children, go free."""

    def used_bytes(self, now_s: float) -> int:
        """Memory in use now; 0 when it is not time to look again."""
        return 0

    def exceeded(self) -> bool:
        """Whether the limit was hit and the job is to end, or was ended, because of it."""
        return False

    def left(self) -> list[int]:
        """Processes that are still held to this limit."""
        return []

    def close(self) -> None:
        """Undo what was set up; all processes are gone."""


class Watch(Limit):
    """Adds up the memory of all descendants. A program that grows faster than it is looked at can pass the limit
    shortly.
    """

    def __init__(self, ram_bytes: int, patience_s: float = 0.0) -> None:
        """`patience_s`: how long it may be too much, for somebody else to end what takes it."""
        self.ram_bytes = ram_bytes
        self._patience_s = patience_s
        self._over_since_s: float | None = None
        self._next_s = time.monotonic() + 0.05
        self._over = False

    def used_bytes(self, now_s: float) -> int:
        """Sum over the tree, at most every 150 ms and less often where /proc is slow to read."""
        if now_s < self._next_s:
            return 0
        found = self.processes()
        used = sum(map(processes.rss_bytes, found))
        if used > self.ram_bytes:
            used = sum(map(processes.pss_bytes, found))
        if used <= self.ram_bytes:
            self._over_since_s = None
        else:
            self._over_since_s = now_s if self._over_since_s is None else self._over_since_s
            self._over = self._over or now_s - self._over_since_s >= self._patience_s
        spent_s = time.monotonic() - now_s
        self._next_s = now_s + max(_WATCH_S_MIN, spent_s / _WATCH_SHARE_MAX)
        return used

    def exceeded(self) -> bool:
        """True once the sum was above the limit."""
        return self._over


class Cgroup(Limit):
    """A cgroup folder with the kernel's own limit; the file names differ between versions 1 and 2."""

    limit_file = ""
    swap_file = ""
    join_file = "cgroup.procs"
    outside = ""
    events_file = ""
    anonymous: tuple[bytes, ...] = ()

    def __init__(self, folder: str, ram_bytes: int, is_made: bool = False) -> None:
        """Make the folder and set the limit, unless it `is_made`. Raises OSError where that is not possible."""
        self.folder = folder
        self._next_s = 0.0
        if is_made:
            return
        os.makedirs(folder, exist_ok=True)
        write(folder + "/" + self.limit_file, str(ram_bytes))
        self._limit_swap(ram_bytes)

    def _limit_swap(self, ram_bytes: int) -> None:
        raise NotImplementedError

    def join(self) -> None:
        """See Limit."""
        write(self.folder + "/" + self.join_file, "0")

    def leave(self) -> None:
        """See Limit."""
        write(os.path.dirname(self.folder) + self.outside + "/" + self.join_file, "0")

    def used_bytes(self, now_s: float) -> int:
        """Memory without the page cache, which the kernel drops when it is needed elsewhere."""
        if now_s < self._next_s:
            return 0
        self._next_s = now_s + _SAMPLE_S
        used = 0
        for line in read(self.folder + "/memory.stat").splitlines():
            name, _, value = line.partition(b" ")
            if name in self.anonymous:
                used += int(value)
        return used

    def exceeded(self) -> bool:
        """Whether the kernel ended a process for memory."""
        for line in read(self.folder + "/" + self.events_file).splitlines():
            name, _, value = line.partition(b" ")
            if name == b"oom_kill":
                return int(value) > 0
        return False

    def left(self) -> list[int]:
        """Processes in the group; the supervisor is not in it."""
        return members(self.folder)

    def close(self) -> None:
        """Remove the group."""
        remove_group(self.folder)


class CgroupV1(Cgroup):
    """A memory cgroup of version 1."""

    limit_file = "memory.limit_in_bytes"
    swap_file = "memory.memsw.limit_in_bytes"
    join_file = "tasks"  # the calling thread alone: `cgroup.procs` takes a lock of the whole kernel, 5 to 15 ms
    events_file = "memory.oom_control"
    anonymous = (b"total_rss", b"total_shmem")

    def _limit_swap(self, ram_bytes: int) -> None:
        if os.path.exists(self.folder + "/" + self.swap_file):
            write(self.folder + "/" + self.swap_file, str(ram_bytes))


class CgroupV2(Cgroup):
    """A cgroup of version 2 inside a delegated scope; an OOM ends the whole group, so that no half of a job goes on."""

    limit_file = "memory.max"
    outside = "/keeper"  # version 2 has no processes beside groups with controllers
    swap_file = "memory.swap.max"
    events_file = "memory.events"
    anonymous = (b"anon", b"shmem")

    def _limit_swap(self, ram_bytes: int) -> None:
        if os.path.exists(self.folder + "/" + self.swap_file):
            write(self.folder + "/" + self.swap_file, "0")

    def end_whole(self, wanted: bool) -> None:
        """Whether an OOM ends the whole group or one process of it."""
        if os.path.exists(self.folder + "/memory.oom.group"):
            write(self.folder + "/memory.oom.group", "1" if wanted else "0")


def divide_scope(root: str = "/sys/fs/cgroup") -> str:
    """Prepare the delegated scope that this process runs in for a group per attempt, itself in `keeper`.

    Returns the scope's folder; one that cannot be used, so that memory is watched, if this is not such a scope.
    """
    lines = processes.read_proc("self", "cgroup").splitlines()
    own = next((os.fsdecode(line[3:]) for line in lines if line.startswith(b"0::")), "")
    scope = root + own
    if "racksack" not in own.rpartition("/")[2]:
        return os.devnull
    try:
        os.makedirs(scope + "/keeper", exist_ok=True)
        write(scope + "/keeper/cgroup.procs", "0")
        write(scope + "/cgroup.subtree_control", "+memory")
    except OSError:
        return os.devnull
    return scope


def join_limit(kind: str, path: str, ram_bytes: int, ends_whole: bool = True) -> Limit:
    """Set the limit of one attempt and take it on; where the chosen way fails, the memory is watched instead.

    Without `ends_whole` one process goes when memory is short, not all: a sweep's runner starts another worker.
    """
    if ram_bytes <= 0:
        return Limit()
    watch = Watch(ram_bytes, 0.0 if ends_whole else _RUNNER_S)
    try:
        limit: Limit = watch
        if kind == "cgroup1":
            limit = CgroupV1(path, ram_bytes)
        elif kind == "scope":
            limit = CgroupV2(path, ram_bytes)
            limit.end_whole(ends_whole)
        limit.join()
    except OSError:
        return watch
    return limit


def observe(kind: str, path: str, ram_bytes: int, ends_whole: bool = True) -> Limit:
    """The limit that another process took on with `join_limit`; `kind` is what came of that."""
    if ram_bytes <= 0:
        return Limit()
    if kind == "watch":
        return Watch(ram_bytes, 0.0 if ends_whole else _RUNNER_S)
    return (CgroupV1 if kind == "cgroup1" else CgroupV2)(path, ram_bytes, is_made=True)


def members(folder: str) -> list[int]:
    """The processes in a cgroup; none where there is no such group."""
    return [int(name) for name in read(folder + "/cgroup.procs").split()] if folder else []


def remove_group(folder: str) -> None:
    """Remove an empty cgroup; none is fine. The kernel may need a moment after the last process."""
    for _ in range(50):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return


def write(path: str, text: str) -> None:
    """Write a value into a kernel file. Raises OSError."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def read(path: str) -> bytes:
    """A kernel file's content; empty when it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(file)
