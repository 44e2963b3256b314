"""The records of attempts as they can be relied on. A power cut, a full disk or a bad sector leaves empty, cut or odd
files; such a record is none, and its attempt alone is lost.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Optional

from racksack_agent import records
from racksack_agent.home import AttemptFolder

Record = Dict[str, Any]

NAME = re.compile(r"[0-9]{1,15}\.[0-9]{1,9}(@[0-9]{1,6})?")
_STATES = ("preparing", "prepared", "running", "ended")
_OUTCOMES = ("done", "failed", "oom", "timeout", "cancelled", "prepare_failed", "lost")
_NUMBER = (int, float)
_LAUNCH = {
    "attempt": str, "boot_id": str, "digest": str, "limit": dict, "cpu_ids": list, "launched_at_s": _NUMBER,
    "max_output_bytes": _NUMBER,
}  # fmt: skip
_FINAL = {"attempt": str, "boot_id": str, "outcome": str, "output_files": int, "output_bytes": int}


def launch_of(folder: AttemptFolder) -> Optional[Record]:
    """The order of an attempt; None when there is none, or none that can be understood."""
    launch = records.read(folder.launch)
    if launch is None or not _has(launch, _LAUNCH) or launch["attempt"] != folder.name:
        return None
    return launch if isinstance(launch["limit"].get("path"), str) else None


def final_of(folder: AttemptFolder) -> Optional[Record]:
    """How an attempt ended; None when it has not, or when that cannot be understood."""
    final = records.read(folder.exit)
    if final is None or not _has(final, _FINAL) or final["attempt"] != folder.name:
        return None
    return final if final.get("state") == "ended" and final["outcome"] in _OUTCOMES else None


def state_of(folder: AttemptFolder) -> Optional[Record]:
    """The latest report of an attempt that has not ended; None when there is none that can be understood."""
    state = records.read(folder.state)
    if state is None or state.get("attempt") != folder.name or state.get("state") not in _STATES:
        return None
    return state


def is_torn(folder: AttemptFolder) -> bool:
    """Whether there is a record of its end that cannot be understood."""
    return os.path.lexists(folder.exit) and final_of(folder) is None


def stand_in(folder: AttemptFolder) -> Record:
    """What is used in place of an order that cannot be understood: enough to clean up and to say that it is lost."""
    return {
        "attempt": folder.name, "epoch": None, "boot_id": "", "digest": "", "limit": {"kind": "watch", "path": ""},
        "cpu_ids": [], "launched_at_s": 0.0, "max_output_bytes": 10 << 30,
    }  # fmt: skip


def _has(record: Record, types: Dict[str, Any]) -> bool:
    return all(isinstance(record.get(name), kind) for name, kind in types.items())
