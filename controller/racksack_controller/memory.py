"""Memory: what is not needed goes back to the machine, and what stays is not gone through again and again."""

from __future__ import annotations

import ctypes
import gc

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BYTES = 1 << 20


def leave_out_of_collections() -> None:
    """Keep what there is now (modules, the state as it was loaded) out of garbage collections: it stays for as long as
    the controller runs, and going through it again and again would hold up the event loop by some 20 ms each time.
    """
    gc.collect()
    gc.freeze()


def give_large_blocks_back() -> None:
    """Have large blocks (columns of a million results) mapped one by one, so that each goes back when it is freed.

    glibc begins so, but learns from every such block that is freed to keep the next ones up to 32 MiB for itself. A C
    library without mallopt is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
