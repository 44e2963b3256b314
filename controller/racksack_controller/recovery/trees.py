"""Copies and measures folders as they are: files, folders and links, none of which is followed. Names are bytes."""

# ruff: noqa: PTH102, PTH115, PTH118, PTH211 - bytes paths: names need not be UTF-8

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from racksack_controller.recovery.contents import Held


class Item(NamedTuple):
    """One entry of a tree, by its name in it (b"" is the tree itself)."""

    name: bytes
    info: os.stat_result


class Measure:
    """Counts what a tree holds, and makes a digest of it: of names, kinds, contents and links, in order."""

    def __init__(self) -> None:
        self.files = self.bytes = 0
        self._hash = hashlib.sha256()

    def item(self, name: bytes, mode: int, size: int = 0, target: bytes = b"") -> None:
        """An entry; the content of a file follows by `content`."""
        kind = b"d" if stat.S_ISDIR(mode) else b"l" if stat.S_ISLNK(mode) else b"f"
        self._hash.update(b"%s%d:%s%d:%s" % (kind, len(name), name, size or len(target), target))
        if kind == b"f":
            self.files, self.bytes = self.files + 1, self.bytes + size

    def content(self, part: bytes) -> None:
        """A piece of a file."""
        self._hash.update(part)

    def held(self) -> Held:
        """All of it."""
        return Held(self.files, self.bytes, self._hash.hexdigest())


class Read:
    """A file whose content is measured as it is read."""

    def __init__(self, file: IO[bytes], measure: Measure) -> None:
        self._file, self._measure = file, measure

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        part = self._file.read(size)
        self._measure.content(part)
        return part


def items(root: Path) -> Iterator[Item]:
    """The tree, folders before what is in them, and in each by name. Raises OSError."""
    base = os.fsencode(root)
    yield Item(b"", os.lstat(base))
    pending = [b""]
    while pending:
        inner = pending.pop()
        folders = []
        with os.scandir(os.path.join(base, inner)) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                name, info = os.path.join(inner, entry.name), entry.stat(follow_symlinks=False)
                yield Item(name, info)
                if stat.S_ISDIR(info.st_mode):
                    folders.append(name)
        pending += reversed(folders)


def held_in(root: Path) -> Held:
    """What a tree holds. Raises OSError."""
    measure, base = Measure(), os.fsencode(root)
    for name, info in items(root):
        path = os.path.join(base, name) if name else base
        target = os.readlink(path) if stat.S_ISLNK(info.st_mode) else b""
        if stat.S_ISREG(info.st_mode):
            with open_only(path) as file:
                measure.item(name, info.st_mode, info.st_size)
                while part := file.read(1024**2):
                    measure.content(part)
        elif stat.S_ISDIR(info.st_mode) or target:
            measure.item(name, info.st_mode, target=target)
    return measure.held()


def open_only(path: bytes | Path) -> IO[bytes]:
    """A file for reading, and nothing behind a link. Raises OSError."""
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def copy(source: Path, target: Path) -> Held:
    """Copy a tree to where nothing stands yet, with modes and times. Raises OSError."""
    base, new = os.fsencode(source), os.fsencode(target)
    measure = Measure()
    folders: list[tuple[bytes, os.stat_result]] = []
    for name, info in items(source):
        from_path, to_path = os.path.join(base, name) if name else base, os.path.join(new, name) if name else new
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(to_path, 0o700)
            folders.append((to_path, info))
            measure.item(name, info.st_mode)
        elif stat.S_ISLNK(info.st_mode):
            link = os.readlink(from_path)
            os.symlink(link, to_path)
            measure.item(name, info.st_mode, target=link)
        elif stat.S_ISREG(info.st_mode):
            _copy_file(name, from_path, to_path, info, measure)
    for path, info in reversed(folders):
        os.chmod(path, stat.S_IMODE(info.st_mode) | stat.S_IRWXU)  # noqa: PTH101
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return measure.held()


def _copy_file(name: bytes, source: bytes, target: bytes, info: os.stat_result, measure: Measure) -> None:
    measure.item(name, info.st_mode, info.st_size)
    with open_only(source) as reading:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(target, flags, 0o600), "wb") as writing:
            shutil.copyfileobj(Read(reading, measure), writing, 1024**2)
            os.fchmod(writing.fileno(), stat.S_IMODE(info.st_mode) & 0o777)
            os.utime(writing.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))
