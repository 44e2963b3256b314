"""Locks between several `serve` of one home: files that are held (flock) by one of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator


@contextlib.contextmanager
def locked(path: str, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file, made if it is not there. If somebody removed it while we waited, another may hold a new
    one: then that is waited for. Raises OSError, BlockingIOError where not to wait.
    """
    while True:
        with open(path, "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not is_at(lock.fileno(), path):
                continue
            yield
            return


def is_at(file: int, path: str) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
