"""Room on the controller's disk: what users bring and jobs return never takes the last of it.

The store must always be able to save: a disk that one user fills stops everybody. So what comes from outside is refused
for the time being when it would leave less than a reserve; small things still pass, each of at most a fiftieth of
what is free. What is under way counts as if it had come already.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

RESERVE_BYTES = 1024**3
RESERVE_SHARE = 0.05  # of a small disk
SMALL_SHARE = 0.02  # of what is free: so much passes also below the reserve

_lock = threading.Lock()
_under_way: Counter[int] = Counter()  # bytes, by device


@contextlib.contextmanager
def hold(folder: Path, size_bytes: int) -> Iterator[None]:
    """Have room for so many bytes below `folder` while they come. Raises OSError (ENOSPC) when there is none."""
    device = folder.stat().st_dev
    with _lock:
        if size_bytes > _room_bytes(folder, _under_way[device]):
            raise OSError(errno.ENOSPC, "the controller's disk is nearly full", str(folder))
        _under_way[device] += size_bytes
    try:
        yield
    finally:
        with _lock:
            _under_way[device] -= size_bytes


def _room_bytes(folder: Path, under_way_bytes: int) -> float:
    space = os.statvfs(folder)
    free, whole = space.f_bavail * space.f_frsize - under_way_bytes, space.f_blocks * space.f_frsize
    return max(free - min(RESERVE_BYTES, RESERVE_SHARE * whole), SMALL_SHARE * max(free, 0))
