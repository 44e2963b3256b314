"""One copy in memory (/dev/shm) of paths of a project, for all runners of sweeps on this node that read the same.

    HOME/shared/KEY/lock          held (flock) by whoever looks, copies or takes away; KEY: checksum of the content
    HOME/shared/KEY/users/NAME    a file for each attempt that reads the copy
    HOME/shared/KEY/copy          a link to the whole and checked copy beside it; what it does not name is no copy
    HOME/shared/.KEY-...          on its way out

HOME is this home's folder in /dev/shm, closed to other users. An attempt is written down before it copies or reads, and
struck out when it ends: by its supervisor, or by the `serve` that finds the supervisor dead. Whoever strikes out the
last one takes the copy away. `sweep` strikes out those whose attempts are no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from typing import Any, Dict, Iterator, Optional, Sequence

from racksack_agent.home import AttemptFolder, Home
from racksack_agent.supervisor import ramdisk
from racksack_agent.supervisor.end import StopRequest

_LOOK_S = 0.05


class Shared:
    """A copy that an attempt reads."""

    __slots__ = ("checksum", "folder", "size_bytes")

    def __init__(self, folder: str, checksum: str, size_bytes: int) -> None:
        self.folder = folder
        self.checksum = checksum
        self.size_bytes = size_bytes

    def told(self) -> Dict[str, Any]:
        """As the runner's `ready` frame has it."""
        return {"checksum": self.checksum, "bytes": self.size_bytes}


def _root(home: Home) -> str:
    return ramdisk.home_folder(home) + "/shared"


def stage(folder: AttemptFolder, paths: Sequence[str], stop: StopRequest) -> Shared:
    """Have the paths in memory, copied by us unless another attempt did it already; checked in either case.

    A copy that differs stays, for those who read it, until there is room for a good one beside it.
    Raises NodeAtFaultError when memory is full or fails, PrepareError when a path is missing or a stop comes meanwhile,
    OSError.
    """
    ramdisk.check(folder.work, paths)
    wanted = ramdisk.checksum(folder.work, paths, stop)
    remove_stale(folder.home)
    with ramdisk.memory_may_be_full(folder.work, paths), _joined(folder.home, wanted, stop) as key:
        with open(f"{key}/users/{folder.name}", "wb"):
            pass
        if not _is_whole(key, paths, wanted, stop):
            _drop_copies(key, but=_current(key))  # another may read it until there is a better one
            _copy(key, folder.work, paths, wanted, stop)
            _drop_copies(key, but=_current(key))
    return Shared(f"{key}/copy", wanted, ramdisk.size_bytes(folder.work, paths))


def _is_whole(key: str, paths: Sequence[str], wanted: str, stop: StopRequest) -> bool:
    try:
        return ramdisk.checksum(f"{key}/copy", paths, stop) == wanted
    except OSError:  # there is none, or something of it is missing
        return False


def _current(key: str) -> str:
    """The name of the copy that is read now; empty when there is none."""
    try:
        return os.readlink(f"{key}/copy")
    except FileNotFoundError:
        return ""


def _drop_copies(key: str, but: str) -> None:
    """Take away what was not finished, or is not right any more: all but one."""
    for name in os.listdir(key):
        if name.startswith("copy-") and name != but:
            shutil.rmtree(f"{key}/{name}")


def _copy(key: str, work: str, paths: Sequence[str], wanted: str, stop: StopRequest) -> None:
    beside = f"{key}/copy-{os.getpid()}-{time.monotonic_ns()}"
    os.mkdir(beside, 0o700)
    try:
        ramdisk.copy(work, paths, beside, wanted, stop)
        ramdisk.make_read_only(beside, paths)  # one that writes would spoil it for the others
    except BaseException:
        shutil.rmtree(beside)
        raise
    link = f"{key}/new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)  # of one that was killed right here
    os.symlink(os.path.basename(beside), link)
    os.rename(link, f"{key}/copy")


@contextlib.contextmanager
def _joined(home: Home, checksum: str, stop: StopRequest) -> Iterator[str]:
    """Make the folder of a content if there is none, and hold its lock; gives the folder.

    Raises PrepareError when a stop comes meanwhile, OSError.
    """
    while True:
        key = os.path.dirname(ramdisk.make_folder(home, f"shared/{checksum}/users"))
        lock = _try_lock(key)
        if lock is not None:
            break
        stop.check(_LOOK_S)
    try:
        yield key
    finally:
        os.close(lock)


def _try_lock(key: str) -> Optional[int]:
    """The open lock, None when another has it or when the folder went meanwhile."""
    path = f"{key}/lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def leave(folder: AttemptFolder) -> None:
    """The attempt has ended: strike it out, and take away what nobody reads any more. Raises OSError."""
    if not ramdisk.has_home_folder(folder.home):
        return
    for key in _keys(folder.home):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{key}/users/{folder.name}")
            _take_away(key)
    _remove_empty(folder.home)


def remove_stale(home: Home) -> None:
    """Strike out attempts that are no more, and take away what nobody reads: a crash may leave it. Raises OSError."""
    if not ramdisk.has_home_folder(home):
        return
    for key in _keys(home):
        for name in _users(key):
            if _is_over(home.attempt(name)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{key}/users/{name}")
        _take_away(key)
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(_root(home)):
            if name.startswith("."):
                shutil.rmtree(f"{_root(home)}/{name}", ignore_errors=True)  # another may be at it, too
    _remove_empty(home)


def _remove_empty(home: Home) -> None:
    for path in (_root(home), ramdisk.home_folder(home)):
        ramdisk.remove_empty(path)


def _is_over(folder: AttemptFolder) -> bool:
    return not folder.exists() or os.path.exists(folder.exit)


def _keys(home: Home) -> list[str]:
    root = _root(home)
    try:
        return [f"{root}/{name}" for name in os.listdir(root) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def _users(key: str) -> list[str]:
    try:
        return os.listdir(f"{key}/users")
    except FileNotFoundError:
        return []


def _take_away(key: str) -> None:
    """Remove the folder if it has no user.

    Never waits: who holds the lock either is a user, or is here, and looks once more after it has let go of the lock.
    """
    while not _users(key) and os.path.isdir(key):
        lock = _try_lock(key)
        if lock is None:
            return
        try:
            if not _users(key):
                root, name = os.path.split(key)
                gone = f"{root}/.{name}-{os.getpid()}-{time.monotonic_ns()}"
                os.rename(key, gone)
                shutil.rmtree(gone, ignore_errors=True)  # `sweep` of another may be at it, too
        finally:
            os.close(lock)
