"""Notes when a job printed: lines `unix-seconds stdout-bytes stderr-bytes` in out/times.log, one when a log has grown.

A program writes into its logs itself, nothing of ours is between; this only looks at their lengths now and then.
The longer a job runs the rarer a note: its error stays below a thousandth of the running time, and a week needs 15,000.
"""

from __future__ import annotations

import os
import time

from racksack_agent import records

_EVERY_S_MIN = 0.25
_PART = 1 / 2000


class LogTimes:
    """The notes of one attempt. The file appears with the first one, so that short jobs have none."""

    def __init__(self, out: str) -> None:
        self._out = out
        self._began_s = self._noted_s = time.monotonic()
        self._sizes = (0, 0)

    def look(self, now_s: float) -> None:
        """Add a note if a log has grown since the last one (monotonic seconds). Without room there is none."""
        if now_s - self._noted_s < max(_EVERY_S_MIN, (now_s - self._began_s) * _PART):
            return
        sizes = (self._size("stdout"), self._size("stderr"))
        if sizes == self._sizes:
            return
        self._sizes, self._noted_s = sizes, now_s
        try:
            self._write(b"%.3f %d %d\n" % (time.time(), *sizes))
        except OSError as problem:
            if not records.is_full(problem) and not isinstance(problem, (FileNotFoundError, NotADirectoryError)):
                raise

    def _size(self, stream: str) -> int:
        try:
            return os.lstat(f"{self._out}/{stream}.log").st_size
        except OSError:  # the job removed it
            return 0

    def _write(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(self._out + "/times.log", flags, 0o644)
        try:
            os.write(file, line)
        finally:
            os.close(file)
