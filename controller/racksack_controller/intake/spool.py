"""The spool's folders: made with the right owners and modes, and held by one controller at a time.

Without a group the spool is its user's alone (0700). With a group, its members may put entries into `incoming/` and
`jobs/` but not list them; default ACLs open each new entry to its creator and the controller, and to nobody else.
`setfacl` sets them. How files are met, read and refused stands in `watching`, `dropped` and `rejecting`.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import stat
import subprocess
from pathlib import Path

from racksack_controller.intake.drop import DroppedFile
from racksack_controller.intake.reject import discard, reject
from racksack_controller.intake.watcher import Watcher
from racksack_jobspecs.layout import Spool

__all__ = ["DroppedFile", "SpoolBusyError", "SpoolError", "SpoolLock", "Watcher", "discard", "prepare", "reject"]

_OWN = 0o700
_PASSAGE = 0o2710  # members pass through by name; new entries belong to the group
_DROP = 0o3730  # members add entries, see none, and remove only their own


class SpoolError(Exception):
    """The spool cannot be used; the sentence says what is in the way and what to do."""


class SpoolBusyError(SpoolError):
    """Another controller holds this spool; stop it, or give this one a spool of its own."""


class SpoolLock:
    """Holds the one lock of a spool until released or until the process ends, however it ends.

    The folder itself is locked as well as the file in it: somebody may remove the file and make room for another.
    """

    def __init__(self, spool: Spool) -> None:
        """Take the lock. Raises SpoolBusyError when another controller has it, SpoolError when it cannot be had."""
        self._descriptors: list[int] = []
        self._is_held = False
        try:
            self._file = self._open(spool.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            folder = self._open(spool.root, os.O_RDONLY | os.O_DIRECTORY)
            for descriptor in (self._file, folder):
                self._lock(spool, descriptor)
        except SpoolError:
            self.release()
            raise
        self.was_left = os.fstat(self._file).st_size > 0
        """Whether the last controller ended without releasing it: it crashed, was killed, or lost its power."""
        self._is_held = True
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def _open(self, path: Path, flags: int) -> int:
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(f"{path} cannot be opened ({error.strerror}); check its owner and mode") from error
        self._descriptors.append(descriptor)
        return descriptor

    def _lock(self, spool: Spool, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            if error.errno != errno.EWOULDBLOCK:
                raise SpoolError(f"{spool.lock} cannot be locked ({error.strerror}); use a local disk") from error
            raise SpoolBusyError(
                f"another controller (pid {holder or 'unknown'}) holds the spool {spool.root}; stop it first"
            ) from None

    def release(self) -> None:
        """Let another controller have the spool. The file stays: removing it could give the lock to two."""
        if self._is_held:
            os.ftruncate(self._file, 0)
        self._is_held = False
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []


def folders(spool: Spool) -> tuple[Path, ...]:
    """All folders that a spool needs, parents first."""
    inside = (spool.snapshots, spool.projects, spool.returns, spool.checkpoints)
    return (spool.root, spool.incoming, spool.jobs, spool.rejected, *inside)


def prepare(spool: Spool, group: str | None = None) -> None:
    """Make the folders, or fix their owners and modes. Can be repeated at any time. Raises SpoolError."""
    try:
        spool.root.mkdir(parents=True, exist_ok=True)
        _check_owner(spool.root)
        gid = _gid_of(group, spool.root) if group is not None else os.getegid()
        passage, drop = (_OWN, _OWN) if group is None else (_PASSAGE, _DROP)
        modes = {spool.incoming: drop, spool.jobs: drop, spool.projects: _OWN}
        for folder in folders(spool):
            _make_folder(folder, modes.get(folder, passage), gid)
        _make_private(spool.database)
    except OSError as error:
        where = error.filename or spool.root
        raise SpoolError(f"the spool's {where} cannot be made ({error.strerror}); check its owner and mode") from error
    if group is not None:
        _set_acls(spool)


def _check_owner(root: Path) -> None:
    owner = root.stat().st_uid
    if owner != os.geteuid():
        raise SpoolError(
            f"the spool {root} belongs to {_user(owner)}; run the controller as that user, "
            f"or give it away with: chown -R {_user(os.geteuid())} {root}"
        )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _gid_of(group: str, root: Path) -> int:
    """The id of a group that the controller may give files to. Raises SpoolError."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise SpoolError(f"there is no group {group}; make it with: groupadd --system {group}") from None
    if os.geteuid() != 0 and gid not in {*os.getgroups(), os.getegid()}:
        user = _user(os.geteuid())
        raise SpoolError(f"{user} is not in the group {group}; add it with: usermod -aG {group} {user} ({root})")
    return gid


def _make_folder(folder: Path, mode: int, gid: int) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if info.st_gid != gid:
        os.chown(folder, -1, gid)
    if stat.S_IMODE(folder.stat().st_mode) != mode:
        folder.chmod(mode)


def _make_private(database: Path) -> None:
    """The store tells all about everybody's jobs. SQLite gives its other files the mode of the first."""
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    database.chmod(0o600)


def _set_acls(spool: Spool) -> None:
    """What appears in the drop folders is open to its creator and to the controller, whoever creates it and how."""
    entries = f"d:u::rwx,d:u:{os.geteuid()}:rwx,d:g::---,d:m::rwx,d:o::---"
    _setfacl("-b", "-k", "--", str(spool.root), str(spool.returns), str(spool.checkpoints), str(spool.snapshots))
    _setfacl("-m", entries, "--", str(spool.incoming), str(spool.jobs))
    _setfacl("-b", "-k", "--", str(spool.rejected))


def _setfacl(*arguments: str) -> None:
    try:
        subprocess.run(["setfacl", *arguments], check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise SpoolError("`group` needs setfacl; install the package acl") from None
    except subprocess.TimeoutExpired as error:
        raise SpoolError(f"setfacl did not end within {error.timeout:.0f} s; check the spool's disk") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or f"exit code {error.returncode}"
        raise SpoolError(f"setfacl failed ({said}); put the spool on a file system with ACLs") from error
