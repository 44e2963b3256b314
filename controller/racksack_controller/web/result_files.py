"""The files of a return folder: a list of them, and parts of one. Runs in threads.

Names and contents came from the job. No link is followed, not even on the way to a file: each folder is opened by the
descriptor of the one above it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

FILES_MAX = 2000
DEPTH_MAX = 32
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Entry(msgspec.Struct, frozen=True):
    """One regular file; `path` is below the return folder, with `/` between its parts."""

    path: str
    size: int  # bytes


class Listing(msgspec.Struct, frozen=True):
    """The files of a folder, by path; of very many the first ones."""

    entries: tuple[Entry, ...]
    is_all: bool


class NoFileError(Exception):
    """There is no such file."""


def listing(root: Path) -> Listing:
    """The files below a folder; none where there is no folder."""
    found: list[Entry] = []
    try:
        folder = os.open(root, _FOLDER)
    except OSError:
        return Listing((), is_all=True)
    try:
        is_all = _collect(folder, "", found, 0)
    finally:
        os.close(folder)
    return Listing(tuple(sorted(found, key=lambda one: one.path)), is_all)


def _collect(folder: int, prefix: str, found: list[Entry], depth: int) -> bool:
    """Add the files of an open folder; False where some are left out."""
    is_all = True
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            path = prefix + entry.name
            if len(found) >= FILES_MAX:
                return False
            if not _is_text(path):
                is_all = False  # a name in another encoding has no address
            elif entry.is_file(follow_symlinks=False):
                found.append(Entry(path, entry.stat(follow_symlinks=False).st_size))
            elif entry.is_dir(follow_symlinks=False):
                is_all &= depth < DEPTH_MAX and _collect_below(folder, entry.name, path, found, depth)
    return is_all


def _collect_below(folder: int, name: str, path: str, found: list[Entry], depth: int) -> bool:
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        return False  # it has gone, or has become something else
    try:
        return _collect(inner, f"{path}/", found, depth + 1)
    finally:
        os.close(inner)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\\" not in path


def open_file(root: Path, path: str) -> int:
    """The descriptor of a regular file below a folder, to be closed. Raises NoFileError."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise NoFileError
    try:
        where = os.open(root, _FOLDER)
    except OSError:
        raise NoFileError from None
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=where)
            os.close(where)
            where = inner
        file = os.open(parts[-1], _FILE, dir_fd=where)
    except (OSError, ValueError):
        raise NoFileError from None
    finally:
        os.close(where)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NoFileError
    return file


def read_part(root: Path, path: str, offset: int, limit: int) -> tuple[bytes, int]:
    """(bytes from `offset`, size of the file); an offset below zero counts from the end. Raises NoFileError."""
    file = open_file(root, path)
    try:
        size = os.fstat(file).st_size
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        return os.pread(file, limit, start), size
    finally:
        os.close(file)
