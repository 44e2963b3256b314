"""What was found while outputs are gathered."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Tuple

_DROPPED_MAX = 100  # named one by one; more are counted
_LEFT_MAX = 50


class Gathered:
    """What is in out/ now, what cannot come, and what is kept on the node."""

    __slots__ = ("dropped", "left", "left_bytes", "left_files", "output_bytes", "output_files", "problem")

    def __init__(self) -> None:
        self.output_bytes = 0
        self.output_files = 0
        self.dropped: List[str] = []
        self.left: List[Tuple[int, str, str]] = []  # bytes, path, why it stayed: "max_output" or "new"
        self.left_files = 0
        self.left_bytes = 0
        self.problem = ""

    def drop(self, what: str) -> None:
        """Name something that is not collected; bytes that are not UTF-8 are shown escaped."""
        what = shown(what)
        if what in self.dropped:
            return
        if len(self.dropped) < _DROPPED_MAX:
            self.dropped.append(what)
        elif len(self.dropped) == _DROPPED_MAX:
            self.dropped.append("and more")

    def leave(self, size_bytes: int, path: str, why: str) -> None:
        """Name something that stays on the node for a while; of many the first."""
        self.left_files += 1
        self.left_bytes += size_bytes
        if len(self.left) < _LEFT_MAX:
            self.left.append((size_bytes, shown(path), why))

    def facts(self) -> Dict[str, Any]:
        """As a report has it."""
        left = [{"path": path, "bytes": size, "why": why} for size, path, why in self.left]
        return {
            "dropped": self.dropped,
            "output_bytes": self.output_bytes,
            "output_files": self.output_files,
            "left": left,
            "left_files": self.left_files,
            "left_bytes": self.left_bytes,
        }


def shown(text: str) -> str:
    """A path for a report: bytes that are not UTF-8 are escaped."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
