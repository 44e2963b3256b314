"""Which start of the machine this is: what was not flushed to disk may be gone after the next one.

On a home that machines share, all of them and all their starts are one: what one has written is not lost when another
is started, and what one has verified another need not read again.
"""

from __future__ import annotations

import os
import time
from typing import Optional

SHARED = "slurm"
_is_shared = False


def boot_id() -> str:
    """Names this start of the machine, or the shared home's one and only."""
    if _is_shared:
        return SHARED
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def share_home() -> None:
    """This process works on a home that machines share."""
    global _is_shared  # noqa: PLW0603 - said once, at the start of a process
    _is_shared = True


def up_s() -> Optional[float]:
    """For how many seconds this machine has been running: as long as its first process, which is also right in a
    container. None where that cannot be read.
    """
    try:
        with open("/proc/1/stat", encoding="ascii", errors="replace") as file:
            began_s = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began_s)
    except (OSError, ValueError, IndexError):
        return None
