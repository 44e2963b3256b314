"""The states of a job, its attempts and a node, and the exit codes that report them.

A job that is with a node shows the state of its current attempt, so one set of words serves both.
The legal transitions stand in `racksack_controller.core.lifecycle`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class JobState(StrEnum):
    """Where a job, or one attempt at it, is."""

    QUEUED = "queued"
    HELD = "held"
    STAGING = "staging"
    PREPARING = "preparing"
    RUNNING = "running"
    COLLECTING = "collecting"
    DONE = "done"
    FAILED = "failed"
    OOM = "oom"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LOST = "lost"
    PREPARE_FAILED = "prepare_failed"
    STAGE_FAILED = "stage_failed"


WAITING = frozenset({JobState.QUEUED, JobState.HELD})
ACTIVE = frozenset({JobState.STAGING, JobState.PREPARING, JobState.RUNNING, JobState.COLLECTING})
FINAL = frozenset(JobState) - WAITING - ACTIVE


class NodeState(StrEnum):
    """What the controller knows about a node."""

    UP = "up"
    DRAINING = "draining"
    DRAINED = "drained"
    CONNECTING = "connecting"
    UNREACHABLE = "unreachable"
    OFF = "off"
    BOOTING = "booting"
    STOPPING = "stopping"
    SET_ASIDE = "set_aside"


class ExitCode(IntEnum):
    """What the commands return to the shell; documented in docs/commands.md."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    REFUSED = 5
    NEVER_RUNNABLE = 6
    TRANSFER = 7
    PARTIAL = 8
    JOB_FAILED = 10
    JOB_OOM = 11
    JOB_TIMEOUT = 12
    JOB_CANCELLED = 13
    JOB_NOT_AT_FAULT = 14
    WAIT_TIMEOUT = 124
    INTERRUPTED = 130


_EXIT_CODES = {
    JobState.DONE: ExitCode.OK,
    JobState.FAILED: ExitCode.JOB_FAILED,
    JobState.OOM: ExitCode.JOB_OOM,
    JobState.TIMEOUT: ExitCode.JOB_TIMEOUT,
    JobState.CANCELLED: ExitCode.JOB_CANCELLED,
    JobState.LOST: ExitCode.JOB_NOT_AT_FAULT,
    JobState.PREPARE_FAILED: ExitCode.JOB_NOT_AT_FAULT,
    JobState.STAGE_FAILED: ExitCode.JOB_NOT_AT_FAULT,
}


def exit_code(state: JobState) -> ExitCode:
    """The exit code that reports a final state; raises KeyError for a state that is not final."""
    return _EXIT_CODES[state]
