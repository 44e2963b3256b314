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
PIECE_BYTES = 8 * 1024  # a line without an end is shown in pieces of this size
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
        found = whole.removesuffix(b"\n").rsplit(b"\n", lines) if lines else []
        if len(found) > lines or start == 0 or not lines:
            kept = len(whole) - (len(found[0]) + 1 if len(found) > lines else 0) if lines else 0
            return start + len(whole) - kept
        size *= 8


class Lines:
    """Bytes of a log as they come, to lines with what stands before each: the job's id, the time.

    A line is given when it is whole; of one that goes on and on, such as a progress bar, each piece of some size.
    """

    def __init__(
        self, prefix: bytes = b"", notes: Notes | None = None, offset: int = 0, otherwise: Callable[[], float] = float
    ) -> None:
        """notes: None for lines without a time. otherwise: the time (Unix seconds) of what no note tells."""
        self._prefix, self._notes, self._at, self._otherwise = prefix, notes, offset, otherwise
        self._rest: list[bytes] = []  # of the line that has not ended, not given yet
        self._rest_bytes = 0
        self._is_begun = False  # whether a piece of that line was given

    def feed(self, data: bytes) -> bytes:
        """What can be shown now."""
        if not self._prefix and self._notes is None:
            return data
        *whole, rest = data.split(b"\n")
        given = [self._ended(line) for line in whole]
        self._rest.append(rest)
        self._rest_bytes += len(rest)
        if self._rest_bytes >= PIECE_BYTES:
            given.append(self._piece())
        return b"".join(given)

    def end(self) -> bytes:
        """The last line when it has no end of its own."""
        return self._ended(b"") if self._rest_bytes or self._is_begun else b""

    def _ended(self, last: bytes) -> bytes:
        self._rest.append(last)
        line = self._piece() + b"\n"
        self._at += 1
        self._is_begun = False
        return line

    def _piece(self) -> bytes:
        """What there is of a line, behind what stands before it when it is the first."""
        before = b"" if self._is_begun else self._before()
        piece = b"".join(self._rest)
        self._at += len(piece)
        self._rest, self._rest_bytes, self._is_begun = [], 0, True
        return before + piece

    def _before(self) -> bytes:
        if self._notes is None:
            return self._prefix
        when_s = self._notes.time_of(self._at)
        shown = datetime.fromtimestamp(self._otherwise() if when_s is None else when_s).astimezone()
        return self._prefix + shown.isoformat(timespec="seconds").encode() + b" "
