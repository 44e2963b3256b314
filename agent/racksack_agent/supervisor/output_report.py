"""What was found while outputs are gathered."""

from __future__ import annotations

import os

_DROPPED_MAX = 100  # named one by one; more are counted


class Gathered:
    """What is in out/ now."""

    __slots__ = ("dropped", "output_bytes", "output_files", "problem")

    def __init__(self) -> None:
        self.output_bytes = 0
        self.output_files = 0
        self.dropped: list[str] = []
        self.problem = ""

    def drop(self, what: str) -> None:
        """Name something that is not collected; bytes that are not UTF-8 are shown escaped."""
        what = os.fsencode(what).decode("utf-8", "backslashreplace")
        if len(self.dropped) < _DROPPED_MAX:
            self.dropped.append(what)
        elif len(self.dropped) == _DROPPED_MAX:
            self.dropped.append("and more")


class TooLargeError(Exception):
    """The outputs are larger than the job may return."""

    def __init__(self, found_bytes: int) -> None:
        super().__init__(found_bytes)
        self.found_bytes = found_bytes
