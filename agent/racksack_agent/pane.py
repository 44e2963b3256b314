"""Shows in the pane what the job writes, so that `attach` shows it live.

The job writes into files directly: they are whole even if this process dies. What grows there is copied to the terminal
without ever waiting for it: a terminal that somebody stopped with Ctrl-S misses output, the job does not stand still.
"""

from __future__ import annotations

import os

_BURST_BYTES = 64 * 1024


class Echo:
    """How far each log has been shown."""

    def __init__(self, out_folder: str | None) -> None:
        self._shown = {f"{out_folder}/{name}.log": 0 for name in ("stdout", "stderr")} if out_folder else {}
        self._terminal: int | None = None

    def copy(self) -> None:
        """Show what is new; of a large burst only its end."""
        for path, shown in self._shown.items():
            try:
                size = os.stat(path).st_size
            except OSError:  # the job removed its own log
                continue
            if size > shown:
                self._show(path, max(shown, size - _BURST_BYTES), size)
            self._shown[path] = size

    def _show(self, path: str, start: int, end: int) -> None:
        try:
            if self._terminal is None:
                self._terminal = os.open("/dev/tty", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            log = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.write(self._terminal, os.pread(log, end - start, start))
            finally:
                os.close(log)
        except OSError:  # the terminal is full, stopped or gone; the log has it all
            return
