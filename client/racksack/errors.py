"""What can go wrong for a user of the client, as one small tree.

The text of an error is one sentence for the person at the keyboard: what is wrong, where, and how to fix it. The class
decides the exit code, so a script can tell "try again later" from "this will never work".
"""

from __future__ import annotations

from racksack_jobspecs.states import ExitCode


class RacksackError(Exception):
    """Something went wrong; the message says what and what to do."""

    exit_code: ExitCode = ExitCode.ERROR


class UsageError(RacksackError):
    """The request itself is malformed: a bad option, a bad job file, a bad configuration."""

    exit_code = ExitCode.USAGE


class ProjectError(RacksackError):
    """The project folder cannot be sent as it is."""


class NotFoundError(RacksackError):
    """There is no such job or node."""

    exit_code = ExitCode.NOT_FOUND


class UnreachableError(RacksackError):
    """The controller does not answer. Nothing was changed, so the command can be repeated."""

    exit_code = ExitCode.UNREACHABLE


class NotAllowedError(UnreachableError):
    """The controller is there, and this user may not talk to it."""


class NotInstalledError(UnreachableError):
    """No controller is named, and this machine lacks what it takes to run one."""


class RefusedError(RacksackError):
    """The state of the job or node does not allow it, or it belongs to somebody else."""

    exit_code = ExitCode.REFUSED


class NeverRunnableError(RacksackError):
    """The request exceeds every node, so the job would wait for ever."""

    exit_code = ExitCode.NEVER_RUNNABLE


class TransferError(RacksackError):
    """Files did not arrive whole. Repeating the command goes on where it stopped."""

    exit_code = ExitCode.TRANSFER


class PartialTransferError(TransferError):
    """Some of the files could not be copied; the others were."""


class PartialError(RacksackError):
    """It worked for some of several jobs and failed for others."""

    exit_code = ExitCode.PARTIAL


class WaitTimeoutError(RacksackError):
    """The time given to wait is over; the job goes on."""

    exit_code = ExitCode.WAIT_TIMEOUT


_BY_CODE: dict[int, type[RacksackError]] = {
    int(kind.exit_code): kind
    for kind in (UsageError, NotFoundError, UnreachableError, RefusedError, NeverRunnableError, TransferError)
}


def error_for_code(code: int, sentence: str) -> RacksackError:
    """The error that reports this exit code."""
    return _BY_CODE.get(code, RacksackError)(sentence)
