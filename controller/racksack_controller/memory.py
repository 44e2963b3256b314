"""Memory that is not needed any more goes back to the machine."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BYTES = 1 << 20


def give_large_blocks_back() -> None:
    """Have large blocks (columns of a million results) mapped one by one, so that each goes back when it is freed.

    glibc begins so, but learns from every such block that is freed to keep the next ones up to 32 MiB for itself. A C
    library without mallopt is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
