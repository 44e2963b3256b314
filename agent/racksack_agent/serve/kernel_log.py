"""Xid messages of the NVIDIA driver in the kernel log, where this account may read it."""

from __future__ import annotations

import os
import re
from typing import Dict, List, Tuple

from racksack_agent.serve.numbers import whole

_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-f:.]{1,40})\): ([0-9]{1,6}),?\s*(.*)", re.IGNORECASE)
_RECORDS_MAX = 100_000
RECENT_S = 1800.0

# Those after which the device is not to be trusted until it was reset; others are the program's own fault.
# NVIDIA, "XID Errors" (docs.nvidia.com/deploy/xid-errors).
FATAL = {
    48: "double bit ECC error",
    64: "row remapping failed",
    74: "NVLink error",
    79: "fallen off the bus",
    95: "uncontained memory error",
    119: "GSP timed out",
    120: "GSP failed",
    140: "unrecovered ECC error",
    154: "recovery needed",
}


def xids(text: str, uptime_s: float) -> Dict[str, str]:
    """By PCI address (`0000:81:00`), what happened there in the last half hour. `text`: records of /dev/kmsg."""
    found = {}
    for line in text.splitlines():
        match = _XID.search(line)
        if match is None or int(match[2]) not in FATAL:
            continue
        stamp = line.split(";", 1)[0].split(",")
        micros = whole(stamp[2]) if len(stamp) > 2 else None
        at_s = uptime_s if micros is None else micros / 1e6
        if uptime_s - at_s <= RECENT_S:
            found[match[1].lower().partition(".")[0]] = f"Xid {match[2]} ({FATAL[int(match[2])]})"
    return found


def recent_xids() -> Dict[str, str]:
    """What `xids` finds in this machine's kernel log; nothing where it may not be read."""
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            uptime_s = float(file.read().split()[0])
        return xids(_records(), uptime_s)
    except (OSError, ValueError):
        return {}


def _records() -> str:
    """All records of /dev/kmsg: each read gives one. Raises OSError."""
    file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found: List[str] = []
    try:
        while len(found) < _RECORDS_MAX:
            try:
                found.append(os.read(file, 8192).decode(errors="replace"))
            except BlockingIOError:
                break
            except BrokenPipeError:  # it was overwritten meanwhile; the next read goes on behind it
                continue
    finally:
        os.close(file)
    return "".join(found)


def matches(bus_id: str, address: str) -> bool:
    """Whether `00000000:81:00.0` of nvidia-smi is the `0000:81:00` of the log."""
    domain, _, rest = bus_id.lower().partition(":")
    other, _, place = address.partition(":")
    return bool(rest) and rest.partition(".")[0] == place and _hex(domain) == _hex(other)


def _hex(text: str) -> Tuple[bool, int]:
    try:
        return True, int(text, 16)
    except ValueError:
        return False, 0
