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
