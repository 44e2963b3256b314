"""When a job printed what: the notes of its agent (`times.log`), for `logs --since` and `--timestamps`."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from racksack.client import Client

_NOTE = re.compile(rb"([0-9]{1,12}\.[0-9]{3}) ([0-9]{1,18}) ([0-9]{1,18})")
_TAIL_BYTES = 64 * 1024
_COLUMN = {"stdout": 2, "stderr": 3}  # the groups of _NOTE


@dataclass(frozen=True)
class Notes:
    """The length of one log at several times, in order."""

    at_s: tuple[float, ...] = ()
    sizes: tuple[int, ...] = ()

    def time_of(self, offset: int) -> float | None:
        """When the byte at `offset` was there, None when no note tells."""
        index = bisect_right(self.sizes, offset)
        return self.at_s[index] if index < len(self.at_s) else None

    def offset_at(self, time_s: float) -> int:
        """How long the log was before `time_s`, as far as the notes tell."""
        index = bisect_left(self.at_s, time_s)
        return self.sizes[index - 1] if index else 0


def read(client: Client, job_id: int, stream: str, attempt: int | None = None, rank: int | None = None) -> Notes:
    """The notes about a log. The file came from the job's folder: what is no note, or goes back, is left out."""
    if stream not in _COLUMN:
        return Notes()
    at_s: list[float] = []
    sizes: list[int] = []
    for line in b"".join(client.log(job_id, "times", attempt=attempt, rank=rank)).splitlines():
        note = _NOTE.fullmatch(line)
        if note is None:
            continue
        when_s, size = float(note[1]), int(note[_COLUMN[stream]])
        if not at_s or (when_s >= at_s[-1] and size >= sizes[-1]):
            at_s.append(when_s)
            sizes.append(size)
    return Notes(tuple(at_s), tuple(sizes))


@dataclass(frozen=True)
class Showing:
    """How logs are shown: from where on, with times, which attempt's, of which rank of a gang."""

    since_s: float | None = None  # Unix seconds
    tail: int | None = None  # lines
    timestamps: bool = False
    attempt: int | None = None
    rank: int | None = None


def begin(client: Client, job_id: int, stream: str, how: Showing) -> tuple[int, Notes]:
    """The offset at which to begin, and the notes about the log as far as they are needed."""
    notes = Notes()
    if how.timestamps or how.since_s is not None:
        notes = read(client, job_id, stream, how.attempt, how.rank)
    if how.tail is not None:
        return tail_offset(client, job_id, stream, how.tail, how), notes
    return (0 if how.since_s is None else notes.offset_at(how.since_s)), notes


def tail_offset(client: Client, job_id: int, stream: str, lines: int, how: Showing) -> int:
    """Where the last lines of a log begin; it is read from its end in growing steps."""
    size = _TAIL_BYTES
    while True:
        data, end, _ = client.log_chunk(job_id, stream, -size, attempt=how.attempt, rank=how.rank)
        start = end - len(data)
        whole = b"".join([data, *client.log(job_id, stream, attempt=how.attempt, rank=how.rank, offset=end)])
        found = whole.splitlines(keepends=True)
        if len(found) > lines or start == 0:
            kept = sum(map(len, found[-lines:])) if lines else 0
            return start + len(whole) - kept
        size *= 8


class Lines:
    """Bytes of a log as they come, to whole lines with what stands before each: the job's id, the time."""

    def __init__(
        self, prefix: bytes = b"", notes: Notes | None = None, offset: int = 0, otherwise: Callable[[], float] = float
    ) -> None:
        """notes: None for lines without a time. otherwise: the time (Unix seconds) of what no note tells."""
        self._prefix, self._notes, self._at, self._otherwise = prefix, notes, offset, otherwise
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The lines that are whole now."""
        if not self._prefix and self._notes is None:
            return data
        *whole, self._rest = (self._rest + data).split(b"\n")
        return b"".join(self._line(line) for line in whole)

    def end(self) -> bytes:
        """The last line when it has no end of its own."""
        rest, self._rest = self._rest, b""
        return self._line(rest) if rest else b""

    def _line(self, line: bytes) -> bytes:
        before = self._prefix
        if self._notes is not None:
            when_s = self._notes.time_of(self._at)
            shown = datetime.fromtimestamp(self._otherwise() if when_s is None else when_s).astimezone()
            before += shown.isoformat(timespec="seconds").encode() + b" "
        self._at += len(line) + 1
        return before + line + b"\n"
