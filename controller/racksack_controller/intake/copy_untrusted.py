"""Copies a folder that its owner, another user, may be changing meanwhile, so that only what is his is ever read.

Every step goes from an open folder to a name in it without following links, and what was opened is checked, not what
was there before: swapping a folder for a link between two steps leads nowhere. All that cannot be copied is gathered,
so that its owner hears of everything at once.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from racksack_jobspecs.readers import shown

DEPTH_MAX = 100  # an open folder each
SHOWN_MAX = 10
_CHUNK_BYTES = 1024 * 1024

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# EINVAL: what was a link is none any more when it is read.
_OWN_FAULT = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EINVAL})


class Faults:
    """What is wrong with a project: the first few by name, the others counted."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, sentence: str) -> None:
        """Note one fault."""
        self._count += 1
        if len(self._first) < SHOWN_MAX:
            self._first.append(sentence)

    def add_unreadable(self, error: OSError) -> None:
        """Note a file or folder that cannot be read."""
        name = error.filename if isinstance(error.filename, bytes) else os.fsencode(str(error.filename))
        self.add(f"{shown_path(os.path.basename(name))} cannot be read ({error.strerror})")  # noqa: PTH119

    def sentence(self, what: str) -> str:
        """All of it in one sentence."""
        more = f"; and {self._count - len(self._first)} more" if self._count > len(self._first) else ""
        return f"{what} cannot be taken: {'; '.join(self._first)}{more}. Fix these or leave them out, and submit again"


def shown_path(path: bytes) -> str:
    """A path as a message may quote it, whatever bytes it has."""
    return shown(path.decode("utf-8", "backslashreplace"))


def copy_tree(source: Path, target: Path, owner_uid: int, faults: Faults) -> None:
    """Copy files, links and folders into the new folder `target`. Raises OSError when the disk is full and the like."""
    target.mkdir(mode=0o700)
    there = os.open(target, _FOLDER)
    try:
        here = os.open(source, _FOLDER)
        try:
            _copy_folder(here, there, b"", owner_uid, faults, 0)
        finally:
            os.close(here)
    finally:
        os.close(there)


def _copy_folder(here: int, there: int, path: bytes, owner_uid: int, faults: Faults, depth: int) -> None:
    if os.fstat(here).st_uid != owner_uid:
        faults.add(f"{shown_path(path)} belongs to another user")
        return
    if depth > DEPTH_MAX:
        faults.add(f"{shown_path(path)} is nested more than {DEPTH_MAX} folders deep")
        return
    for name in os.listdir(here):
        inner = os.path.join(path, os.fsencode(name))  # noqa: PTH118 - bytes paths: names need not be UTF-8
        try:
            _copy_entry(name, here, there, inner, owner_uid, faults, depth)
        except OSError as error:
            if error.errno not in _OWN_FAULT:
                raise
            faults.add(f"{shown_path(inner)} cannot be read ({error.strerror}); chmod -R ug+rX the project")


def _copy_entry(name: str, here: int, there: int, path: bytes, owner_uid: int, faults: Faults, depth: int) -> None:
    mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
    elif stat.S_ISDIR(mode):
        source = os.open(name, _FOLDER, dir_fd=here)
        try:
            os.mkdir(name, 0o700, dir_fd=there)
            target = os.open(name, _FOLDER, dir_fd=there)
            try:
                _copy_folder(source, target, path, owner_uid, faults, depth + 1)
            finally:
                os.close(target)
        finally:
            os.close(source)
    elif stat.S_ISREG(mode):
        _copy_file(name, here, there, path, owner_uid, faults)
    else:
        faults.add(f"{shown_path(path)} is a device, socket or pipe")


def _copy_file(name: str, here: int, there: int, path: bytes, owner_uid: int, faults: Faults) -> None:
    with open(os.open(name, _FILE, dir_fd=here), "rb") as source:
        info = os.fstat(source.fileno())
        if not stat.S_ISREG(info.st_mode):
            faults.add(f"{shown_path(path)} changed while it was copied")
            return
        if info.st_uid != owner_uid:
            faults.add(f"{shown_path(path)} belongs to another user")
            return
        mode = 0o700 if info.st_mode & stat.S_IXUSR else 0o600
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=there)
        try:
            _copy_data(source.fileno(), descriptor, info.st_size)
        finally:
            os.close(descriptor)


def _copy_data(source: int, target: int, size_bytes: int) -> None:
    """Copy what is written of a file, and leave its holes holes. What is added to it meanwhile is not copied."""
    os.ftruncate(target, size_bytes)
    begin = 0
    while begin < size_bytes:
        try:
            begin = os.lseek(source, begin, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        end = min(os.lseek(source, begin, os.SEEK_HOLE), size_bytes)
        while begin < end:
            data = os.pread(source, min(_CHUNK_BYTES, end - begin), begin)
            if not data:
                return  # it was made shorter
            os.pwrite(target, data, begin)
            begin += len(data)
