"""Copies and measures folders as they are: files, folders and links, none of which is followed. Names are bytes."""

# ruff: noqa: PTH102, PTH115, PTH118, PTH211 - bytes paths: names need not be UTF-8

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Item(NamedTuple):
    """One entry of a tree, by its name in it (b"" is the tree itself)."""

    name: bytes
    info: os.stat_result


class Size(NamedTuple):
    """What a tree holds."""

    files: int
    bytes: int


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


def size_of(root: Path) -> Size:
    """How many files and bytes a tree has. Raises OSError."""
    sizes = [item.info.st_size for item in items(root) if stat.S_ISREG(item.info.st_mode)]
    return Size(len(sizes), sum(sizes))


def copy(source: Path, target: Path) -> Size:
    """Copy a tree to where nothing stands yet, with modes and times. Raises OSError."""
    base, new = os.fsencode(source), os.fsencode(target)
    files = size_bytes = 0
    folders: list[tuple[bytes, os.stat_result]] = []
    for name, info in items(source):
        from_path, to_path = os.path.join(base, name) if name else base, os.path.join(new, name) if name else new
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(to_path, 0o700)
            folders.append((to_path, info))
        elif stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(from_path), to_path)
        elif stat.S_ISREG(info.st_mode):
            _copy_file(from_path, to_path, info)
            files, size_bytes = files + 1, size_bytes + info.st_size
    for path, info in reversed(folders):
        os.chmod(path, stat.S_IMODE(info.st_mode) | stat.S_IRWXU)  # noqa: PTH101
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return Size(files, size_bytes)


def _copy_file(source: bytes, target: bytes, info: os.stat_result) -> None:
    with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as reading:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(target, flags, 0o600), "wb") as writing:
            shutil.copyfileobj(reading, writing, 1024**2)
            os.fchmod(writing.fileno(), stat.S_IMODE(info.st_mode) & 0o777)
            os.utime(writing.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))
