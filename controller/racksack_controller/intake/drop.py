"""Looks at one entry of the drop folder: takes it when it is complete, never reads half of it.

Everything here is blocking and runs in a worker thread; nothing changes the entry. An entry may be anything that its
owner can make: it is opened without following links or waiting for devices, and what was opened is what is judged.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path

import msgspec

from racksack_controller import users
from racksack_controller.intake.writable import others_may_write
from racksack_jobspecs.parse import JobFileError
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.yamltext import TEXT_BYTES_MAX, Problem, YamlError, text_of

STALLED_S = 60.0  # how long a file must be still when its writer began and was never heard to end

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BUSY, _FREE, _UNKNOWN = "busy", "free", "unknown"


class Identity(msgspec.Struct, frozen=True):
    """Tells one file from every other that may stand under its name, now or later.

    The inode alone is used again at once by some file systems, and copies may keep their modification time.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @property
    def key(self) -> str:
        """A word for keys and file names."""
        return f"f{self.device:x}-{self.inode:x}-{self.size_bytes:x}-{self.mtime_ns:x}-{self.ctime_ns:x}"


class DroppedFile(msgspec.Struct, frozen=True):
    """A complete entry of the drop folder. What its text says is read elsewhere, within limits (`reading`): until then
    it has neither spec nor problems, but for those of the entry itself. With `problems` it is no job.
    """

    path: Path
    identity: Identity
    owner_uid: int
    owner: str
    submission: str  # made from its identity, until its text was read and has one
    text: str
    spec: JobSpec | None = None
    problems: tuple[Problem, ...] = ()

    def checked(self) -> JobSpec:
        """The spec. Raises JobFileError for a file that is no job."""
        if self.spec is None:
            raise JobFileError(self.problems, self.submission)
        return self.spec


class Heard(msgspec.Struct, frozen=True):
    """What events told about an entry since it was last looked at."""

    renamed: bool = False  # it was moved here in one piece
    created: bool = False  # it was made here, so an end of writing is to be heard
    closed: bool = False  # somebody stopped writing


class NotYet(msgspec.Struct, frozen=True):
    """The entry may still be growing."""

    identity: Identity
    owner_uid: int
    still_since_s: float


def identity_of(info: os.stat_result) -> Identity:
    """The identity of a file."""
    return Identity(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def look(
    path: Path, heard: Heard, before: NotYet | None, settle_s: float, now_s: float, wall_s: float, leases: bool
) -> DroppedFile | NotYet | None:
    """The entry if it is complete, NotYet while it may be growing, None when it is gone.

    `now_s` is monotonic, `wall_s` the same moment in Unix seconds. `leases` says whether this file system can tell
    whether a file is open for writing (see `writers_of`).
    """
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            return _refused(path, info, [_kind_problem(info)])
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _refused(path, info, [_open_problem(error, path)])
    try:
        return _look_at(descriptor, path, heard, before, settle_s, now_s, wall_s, leases)
    finally:
        os.close(descriptor)


def _look_at(
    descriptor: int,
    path: Path,
    heard: Heard,
    before: NotYet | None,
    settle_s: float,
    now_s: float,
    wall_s: float,
    leases: bool,
) -> DroppedFile | NotYet | None:
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        return _refused(path, info, [_kind_problem(info)])
    seen = identity_of(info)
    still_since = before.still_since_s if before is not None and before.identity == seen else now_s
    if before is None and not (heard.created and not heard.closed):
        still_since -= max(0.0, wall_s - info.st_mtime)
    waiting = NotYet(seen, info.st_uid, still_since)
    writers = writers_of(descriptor) if leases else _UNKNOWN
    if not _is_complete(heard, writers, info.st_nlink, now_s - still_since, settle_s):
        return waiting
    if info.st_nlink > 1:
        return _refused(path, info, [_LINKED])
    if not info.st_size:
        return _refused(path, info, [_EMPTY])
    if info.st_size > TEXT_BYTES_MAX:
        return _refused(path, info, [_TOO_LARGE])
    if info.st_uid != os.geteuid() and others_may_write(descriptor, info):
        return _refused(path, info, [_OPEN_TO_OTHERS])
    text = _read(descriptor)
    if identity_of(os.fstat(descriptor)) != seen:
        return waiting
    return _decoded(path, info, text)


def _is_complete(heard: Heard, writers: str, links: int, still_s: float, settle_s: float) -> bool:
    """Whether nobody is going to add to the file."""
    if writers == _BUSY:
        return False
    if heard.renamed and links == 1:
        return True
    silent_writer = heard.created and not heard.closed and writers == _UNKNOWN
    return still_s >= (max(STALLED_S, settle_s) if silent_writer else settle_s)


def writers_of(descriptor: int) -> str:
    """Whether anybody has the file open for writing: `busy`, `free`, or `unknown` for files of other users.

    The kernel grants a read lease only on a file that nobody writes (fcntl(2), F_SETLEASE). It is given back at once;
    should a writer come in between, the signal is one that is ignored by default.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return _BUSY if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK) else _UNKNOWN
    return _FREE


def leases_work(folder: Path) -> bool:
    """Whether the folder's file system grants leases; some network file systems say `busy` of every file."""
    probe = folder / f".lease-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        descriptor = os.open(probe, _OPEN)
        try:
            return writers_of(descriptor) == _FREE
        finally:
            os.close(descriptor)
    except OSError:
        return False  # a full disk, for one; stillness decides until the next start
    finally:
        probe.unlink(missing_ok=True)


def _read(descriptor: int) -> bytes:
    parts = []
    left = TEXT_BYTES_MAX + 1
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _decoded(path: Path, info: os.stat_result, data: bytes) -> DroppedFile:
    try:
        text = text_of(data)
    except YamlError as error:
        return _refused(path, info, [error.problem], data.decode(errors="replace"))
    return _dropped(path, info, text, ())


def _refused(path: Path, info: os.stat_result, problems: list[Problem], text: str = "") -> DroppedFile:
    return _dropped(path, info, text, tuple(problems))


def _dropped(path: Path, info: os.stat_result, text: str, problems: tuple[Problem, ...]) -> DroppedFile:
    identity = identity_of(info)
    return DroppedFile(
        path=path,
        identity=identity,
        owner_uid=info.st_uid,
        owner=users.learn_here(info.st_uid),
        submission=identity.key,
        text=text,
        problems=problems,
    )


_LINKED = Problem(0, "", "the file has a second name somewhere (a hard link); write a copy of it into jobs/")
_OPEN_TO_OTHERS = Problem(
    0, "", "others can write to this file, so it may not be its owner's; run chmod go-w on it first"
)
_EMPTY = Problem(
    0,
    "",
    "the file is empty; write at least project and entrypoint (if this machine has just lost its power, "
    "`racksack status` says whether its job is there)",
)
_TOO_LARGE = Problem(0, "", f"the file is larger than {TEXT_BYTES_MAX // 1024} KiB; put data into the project")


def _kind_problem(info: os.stat_result) -> Problem:
    if stat.S_ISLNK(info.st_mode):
        what = "a symbolic link"
    elif stat.S_ISDIR(info.st_mode):
        what = "a folder"
    else:
        what = "a device, socket or pipe"
    return Problem(0, "", f"this is {what}; a job file is a regular file, and its project goes into incoming/")


def _open_problem(error: OSError, path: Path) -> Problem:
    if error.errno == errno.ELOOP:
        return Problem(0, "", "this is a symbolic link; a job file is a regular file")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Problem(0, "", f"the controller may not read it; allow that with: chmod ug+r {path.name}")
    return Problem(0, "", f"it cannot be read ({error.strerror}); write it again")
