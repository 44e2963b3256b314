"""Shows in the pane what the job writes, so that `attach` shows it live.

The job writes into files directly: they are whole even if this process dies. What grows there is copied to the terminal
without ever waiting for it: a terminal that somebody stopped with Ctrl-S misses output, the job does not stand still.
"""

from __future__ import annotations

import os
from typing import Optional

_BURST_BYTES = 64 * 1024


class Echo:
    """How far each log has been shown on a terminal that is open for writing without waiting; None shows nothing."""

    def __init__(self, out_folder: str, terminal: Optional[int]) -> None:
        self._terminal = terminal
        self._shown = {f"{out_folder}/{name}.log": 0 for name in ("env", "stdout", "stderr")}

    def skip(self) -> None:
        """Take what is there as shown: an earlier supervisor did that."""
        for path in self._shown:
            if os.path.exists(path):
                self._shown[path] = os.path.getsize(path)

    def copy(self) -> None:
        """Show what is new; of a large burst only its end."""
        if self._terminal is None:
            return
        for path, shown in self._shown.items():
            try:
                size = os.stat(path).st_size
            except OSError:  # there is none yet, or the job removed it
                continue
            if size > shown:
                self._show(self._terminal, path, max(shown, size - _BURST_BYTES), size)
            self._shown[path] = size

    def _show(self, terminal: int, path: str, start: int, end: int) -> None:
        try:
            log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(terminal, os.pread(log, end - start, start))
            finally:
                os.close(log)
        except OSError:  # the terminal is full, stopped or gone; the log has it all
            return
