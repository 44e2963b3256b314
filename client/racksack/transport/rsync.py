"""The system's rsync: what it is told, how far it is, and what its failures mean.

Lists of names go to it NUL-separated on stdin, so no name can be mistaken for an option or a pattern, whatever bytes it
has.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from racksack.errors import PartialTransferError, RacksackError, TransferError
from racksack.transport.ssh import rsync_shell, what_it_said

_PROGRESS = re.compile(rb"\s*([0-9,.]+)\s+([0-9]+)%")
_FILES_SENT = re.compile(rb"Number of (?:regular )?files transferred: ([0-9,.]+)")
_BYTES_SENT = re.compile(rb"Total transferred file size: ([0-9,.]+)")
_BYTES_MOVED = re.compile(rb"Total bytes (?:sent|received): ([0-9,.]+)")
_REASONS = {
    2: "a shell start file there prints something, which breaks rsync; print only in interactive shells",
    10: "the connection broke",
    11: "a disk error or a full disk",
    12: "the connection broke",
    20: "it was interrupted",
    23: "some files could not be copied",
    24: "some files vanished while they were copied",
    30: "nothing arrived for too long",
    127: "rsync is not installed there",
    255: "ssh could not connect",
}
SILENCE_S_MAX = 120

Progress = Callable[[int, int], None]
"""Called with bytes so far and percent."""


@dataclass(frozen=True)
class Moved:
    """What a transfer did."""

    files: int  # that had to be transferred
    file_bytes: int  # their size
    wire_bytes: int  # what went over the wire, both ways


def transfer(
    host: str | None,
    options: Sequence[str],
    source: str,
    destination: str,
    *,
    names: bytes | None = None,
    progress: Progress | None = None,
) -> Moved:
    """Run rsync. `names` are the NUL-separated names to take below `source`. Raises TransferError with what went
    wrong.
    """
    output = _run(host, [*options, "--stats", "--info=progress2"], source, destination, names, progress)
    wire = sum(_number(found) for found in _BYTES_MOVED.findall(output))
    return Moved(_first(_FILES_SENT, output), _first(_BYTES_SENT, output), wire)


def differing(host: str | None, options: Sequence[str], source: str, destination: str, names: bytes) -> list[bytes]:
    """The names that a transfer with these options would still have to copy: none when everything has arrived."""
    output = _run(host, [*options, "--dry-run", "--out-format=%n"], source, destination, names, None)
    return [line for line in output.split(b"\n") if line and not line.endswith(b"/")]


def _run(
    host: str | None,
    options: Sequence[str],
    source: str,
    destination: str,
    names: bytes | None,
    progress: Progress | None,
) -> bytes:
    argv = _argv(host, options, names)
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
        stdin.write(names or b"")
        stdin.seek(0)
        with subprocess.Popen(
            [*argv, "--", source, destination], stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, umask=0o007
        ) as process:
            output = _follow(process.stdout, progress) if process.stdout else b""
        if process.returncode:
            raise _failure(process.returncode, what_it_said(stderr), host)
    return output


def _argv(host: str | None, options: Sequence[str], names: bytes | None) -> list[str]:
    program = shutil.which("rsync")
    if program is None:
        raise RacksackError("there is no `rsync` on this machine; install the rsync package")
    argv = [program, "--protect-args", f"--timeout={SILENCE_S_MAX}", *options]
    if names is not None:
        argv += ["--from0", "--files-from=-"]
    if host is not None:
        # Where no default ACL decides it, new files must still be readable to the controller through their group.
        argv += ["-e", rsync_shell(host), "--rsync-path=umask 007 && rsync"]
    return argv


def _follow(stdout: IO[bytes], progress: Progress | None) -> bytes:
    """Read all that rsync prints, telling `progress` of each step."""
    whole = bytearray()
    while True:
        chunk = stdout.read1(65536)  # type: ignore[attr-defined]
        if not chunk:
            return bytes(whole)
        whole += chunk
        found = _PROGRESS.findall(chunk) if progress is not None else []
        if found and progress is not None:
            progress(_number(found[-1][0]), int(found[-1][1]))


def _failure(code: int, said: str, host: str | None) -> TransferError:
    otherwise = f"rsync was ended by {signal_name(-code)}" if code < 0 else f"rsync ended with code {code}"
    reason = _REASONS.get(code, otherwise)
    said = f" ({said})" if said else ""
    where = f" with {host}" if host is not None else ""
    kind = PartialTransferError if code in (23, 24) else TransferError
    return kind(f"the transfer{where} is not complete: {reason}{said}; repeat the command to resume")


def signal_name(number: int) -> str:
    """`SIGKILL`; `signal 77` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _number(digits: bytes) -> int:
    return int(re.sub(rb"[^0-9]", b"", digits) or b"0")


def _first(pattern: re.Pattern[bytes], output: bytes) -> int:
    found = pattern.search(output)
    return _number(found[1]) if found else 0
