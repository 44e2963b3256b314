"""What Slurm's states of a job mean for an attempt that has left no record of its end."""

from __future__ import annotations

import pwd
from typing import Dict, Optional

LIVING = frozenset(
    ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT",
     "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
)  # fmt: skip
WAITING = frozenset(("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"))
UNEXPLAINED = frozenset(("FAILED", "COMPLETED"))  # what the batch job printed may say more

_ENDS: Dict[str, tuple[str, str]] = {
    "PREEMPTED": ("lost", "Slurm preempted it"),
    "NODE_FAIL": ("lost", "its node of the cluster failed"),
    "BOOT_FAIL": ("lost", "its node of the cluster did not boot"),
    "TIMEOUT": ("timeout", "Slurm ended it at its time limit"),
    "DEADLINE": ("timeout", "Slurm ended it at its deadline"),
    "OUT_OF_MEMORY": ("oom", "it used more memory than it asked for"),
    "CANCELLED": ("cancelled", "it was cancelled in Slurm"),
    "REVOKED": ("cancelled", "it was revoked in Slurm"),
    "FAILED": ("lost", "its batch job failed before it could write its record"),
    "COMPLETED": ("lost", "its batch job ended without a record of how"),
}
NEVER_KNOWN = ("lost", "Slurm no longer knows its job, and it left no record of its end")
REQUEUED = ("lost", "Slurm requeued its job")


def base_state(state: str) -> str:
    """`CANCELLED` of `CANCELLED by 1000` and of `CANCELLED+`."""
    return state.split()[0].rstrip("+") if state.split() else ""


def end_of(state: str) -> tuple[str, str]:
    """Outcome and reason, never `done`: that takes a record of the supervisor."""
    outcome, reason = _ENDS.get(base_state(state), ("lost", f"Slurm says {state or 'nothing'} of its job"))
    who = canceller(state)
    return outcome, f"{reason} by {who}" if who else reason


def fault_of(outcome: str) -> str:
    """Whose fault an end is: job, or node, and then the job runs again."""
    return "node" if outcome in ("lost", "prepare_failed") else "job"


def canceller(state: str) -> Optional[str]:
    """Who cancelled it, by name where there is one."""
    words = state.split()
    if len(words) < 3 or words[1] != "by":
        return None
    try:
        return pwd.getpwuid(int(words[2])).pw_name
    except (KeyError, ValueError, OverflowError):
        return f"user {words[2]}"
