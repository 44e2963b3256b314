"""The states of a sweep, and what can become of a point."""

from __future__ import annotations

from enum import StrEnum


class SweepState(StrEnum):
    """Where a sweep is."""

    RUNNING = "running"  # its points are computed, or wait for room
    STOPPED = "stopped"  # by its owner; `resume` goes on with what is missing
    DONE = "done"  # every point has an outcome; some may have failed
    FAILED = "failed"  # too many points failed, or none can run
    CANCELLED = "cancelled"


SWEEP_FINAL = frozenset({SweepState.DONE, SweepState.FAILED, SweepState.CANCELLED})


class FailureKind(StrEnum):
    """How a point failed."""

    ERROR = "error"  # it raised, or its program ended with another exit code than 0
    TIMEOUT = "timeout"  # it ran into the time limit of a point
    CRASH = "crash"  # its worker died
    OOM = "oom"  # its worker was ended for memory
    KILLED = "killed"  # its program was killed
    LOST = "lost"  # each runner that had it was lost
