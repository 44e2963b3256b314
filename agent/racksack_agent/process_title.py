"""What `ps`, `pgrep` and `pkill` call a process of ours: `racksack-supervisor 42.1` and not `python3 -I -S ...`.

A job may end its own helpers with `pkill python` or `pkill -f python`; that must not reach the processes that watch it.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_NAME = 15
_NAME_BYTES_MAX = 15
_ARG_START, _ARG_END = 45, 46  # fields of /proc/self/stat after the name: see proc(5), 48 and 49

_prctl = ctypes.CDLL(None).prctl  # looked up once, before anything is forked


def set_title(title: str) -> None:
    """Show `title` as command line and its first 15 bytes as name. Where the kernel hides the place, the name only."""
    data = os.fsencode(title)
    _prctl(_PR_SET_NAME, data[:_NAME_BYTES_MAX], 0, 0, 0)
    start, end = _argument_area()
    data = data.replace(b" ", b"\0")  # as between arguments
    if end - start > 1:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, data, min(len(data), end - start - 1))


def _argument_area() -> tuple[int, int]:
    """Where the kernel reads the command line from: addresses in our own memory; (0, 0) when it does not say."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[_ARG_START]), int(fields[_ARG_END])
    except (OSError, IndexError, ValueError):
        return 0, 0
