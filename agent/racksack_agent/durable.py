"""What must be on disk before it counts: bytes written whole, flushed, renamed, and the folder flushed."""

from __future__ import annotations

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)


def write_all(file: int, data: bytes) -> None:
    """Write every byte. Raises OSError; a disk that takes a part of it and no more is full."""
    left = memoryview(data)
    while left:
        written = os.write(file, left)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


def sync_folder(path: str) -> None:
    """Flush the names in a folder. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sync_file_system(path: str) -> None:
    """Flush everything of the file system that `path` is on: one call for a tree of many files. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(file) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(file)


def sync_tree(root: str, files_max: int = 64) -> None:
    """Flush the files and names below `root`. Raises OSError.

    Few files are flushed one by one: flushing the file system would wait for what other programs write, too. With many
    files that is quicker all the same.
    """
    folders, files = [root], []
    for folder in folders:  # grows meanwhile
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    files.append(entry.path)
        if len(folders) + len(files) > files_max:
            sync_file_system(root)
            return
    for path in files:
        sync_file(path)
    for path in reversed(folders):
        sync_folder(path)


def sync_file(path: str) -> None:
    """Flush what was written to a file, by whomever. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
