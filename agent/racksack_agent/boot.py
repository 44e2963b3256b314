"""Which start of the machine this is: what was not flushed to disk may be gone after the next one."""

from __future__ import annotations


def boot_id() -> str:
    """Names this start of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
