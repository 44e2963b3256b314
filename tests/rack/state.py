"""Where a rack keeps what must outlive the process that built it: numbers, processes, faults and power events.

A rack is a directory under `STATE_ROOT`, named by its number. Claiming a number is making that directory, which only
one process can do. Every process of a rack is recorded with its start time, because a pid alone may by then be
another's; nothing is ever ended that is not so recorded.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STATE_ROOT = Path("/run/racksack-rack")
_NUMBERS = range(1, 251)


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    start_ticks: int
    """Time of its start in clock ticks since the machine's boot, as in /proc/PID/stat."""

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has this pid now; ProcessLookupError if there is none."""
        ticks = _start_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, ticks)

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _start_ticks(self.pid) == self.start_ticks


def _start_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may itself hold blanks and brackets: the fixed fields begin after the last bracket.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def kill(process: ProcessId, timeout_s: float = 10.0) -> None:
    """End a recorded process and wait until it has gone; TimeoutError if it has not after `timeout_s`."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # Looked at after the descriptor was opened: from here on it is this process or none.
        if not process.alive():
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if not select.select([pidfd], [], [], timeout_s)[0]:
            raise TimeoutError(f"process {process.pid} did not end within {timeout_s} s of SIGKILL")
    finally:
        os.close(pidfd)


def wait_gone(process: ProcessId, timeout_s: float) -> bool:
    """Wait until a process has ended; False if it still runs after `timeout_s`."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not process.alive() or bool(select.select([pidfd], [], [], timeout_s)[0])
    finally:
        os.close(pidfd)


def claim_number() -> int:
    """Take the smallest free rack number by making its directory."""
    STATE_ROOT.mkdir(mode=0o755, exist_ok=True)
    for number in _NUMBERS:
        try:
            (STATE_ROOT / str(number)).mkdir(mode=0o755)
        except FileExistsError:
            continue
        return number
    raise RuntimeError(
        f"all {len(_NUMBERS)} rack numbers are taken; see {STATE_ROOT} and end dead racks with `rack.py down`"
    )


def numbers() -> list[int]:
    """The numbers of all racks that have a directory, living or left behind."""
    if not STATE_ROOT.exists():
        return []
    return sorted(int(entry.name) for entry in STATE_ROOT.iterdir() if entry.name.isdigit())


def write_json(path: Path, value: Any) -> None:
    """Write a value so that a reader sees the old or the new one, never half."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value, indent=1))
    beside.replace(path)


def read_json(path: Path, default: Any = None) -> Any:
    """The value in a file, or `default` where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return default


def read_process(path: Path) -> ProcessId | None:
    """The process recorded in a file, if it still runs."""
    recorded = read_json(path)
    if recorded is None:
        return None
    process = ProcessId(**recorded)
    return process if process.alive() else None


def record_process(path: Path, process: ProcessId) -> None:
    """Record a process in a file of its own."""
    write_json(path, asdict(process))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock: a BMC, a magic packet and a test may all switch one server at once."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class PowerEvent:
    """Something that happened to a server's power, as its own hardware saw it."""

    time_s: float
    """Seconds since the epoch."""
    server: str
    event: str
    """power-on, up (sshd listens), power-button, stopping (soft power-off begun), off, power-cut, magic-packet,
    magic-dropped."""
    detail: str = ""


def append_event(rack: Path, server: str, event: str, detail: str = "") -> None:
    """Add an event to the rack's record; one short write at the end of a file, whole beside others'."""
    line = json.dumps(asdict(PowerEvent(time.time(), server, event, detail))) + "\n"
    with (rack / "events.jsonl").open("a") as record:
        record.write(line)


def read_events(rack: Path) -> list[PowerEvent]:
    """All power events of a rack, oldest first."""
    path = rack / "events.jsonl"
    if not path.exists():
        return []
    return [PowerEvent(**json.loads(line)) for line in path.read_text().splitlines()]
