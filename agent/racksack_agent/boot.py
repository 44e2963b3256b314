"""Which start of the machine this is: what was not flushed to disk may be gone after the next one."""

from __future__ import annotations

import os
import time
from typing import Optional


def boot_id() -> str:
    """Names this start of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


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
