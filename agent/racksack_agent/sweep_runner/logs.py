"""What points print goes to the job's logs, up to a bound: a hundred thousand points that print a line each are a log
that nobody can read.
"""

from __future__ import annotations

import os

LOG_BYTES_MAX = 16 << 20
_READ_BYTES = 1 << 16


class BoundedLog:
    """A pipe that workers write into, copied to one of our own streams."""

    def __init__(self, stream: int, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._stream = stream
        self._left = bytes_max
        self.dropped_bytes = 0

    def copy(self) -> None:
        """Take what is there."""
        while True:
            try:
                data = os.read(self.reader, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._keep(data)
            if len(data) < _READ_BYTES:
                return

    def _keep(self, data: bytes) -> None:
        kept = data[: self._left]
        self._left -= len(kept)
        write(self._stream, kept)
        if len(kept) < len(data) and not self.dropped_bytes:
            write(
                self._stream, b"\n[racksack: the log of this runner is full; what points print is not kept any more]\n"
            )
        self.dropped_bytes += len(data) - len(kept)


def write(stream: int, data: bytes) -> None:
    """Write all; on a full disk a log is what can be done without."""
    while data:
        try:
            data = data[os.write(stream, data) :]
        except OSError:
            return
