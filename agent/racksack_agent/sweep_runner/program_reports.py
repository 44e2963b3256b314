"""What a program of a sweep reports while it runs: JSON objects with a `step`, each on a line of its own, on stdout
or in the file that $RACKSACK_REPORTS names.
"""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

from racksack_agent import processes
from racksack_agent.sweep_runner import reporting

POLL_S = 0.1
GRACE_S = 10.0  # between TERM and KILL of a program whose point is stopped
_READ_BYTES = 1 << 20
_LINE_BYTES_MAX = 64 * 1024


class ReportLines:
    """The reports in a file that grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._position = 0
        self._rest = b""

    def new(self) -> Iterator[Tuple[float, Dict[str, Any]]]:
        """The step and values of each line that was completed since the last call."""
        while True:
            try:
                with open(self._path, "rb") as file:
                    file.seek(self._position)
                    data = file.read(_READ_BYTES)
            except FileNotFoundError:
                return
            if not data:
                return
            self._position += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-_LINE_BYTES_MAX:]
            for line in lines:
                found = report_of(line)
                if found is not None:
                    yield found


def report_of(line: bytes) -> Optional[Tuple[float, Dict[str, Any]]]:
    """A line as a report; None for any other line."""
    if len(line) > _LINE_BYTES_MAX or b'"step"' not in line or not line.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = found.pop("step", None) if isinstance(found, dict) else None
    if isinstance(step, bool) or not isinstance(step, (int, float)):
        return None
    return float(step), found


def followed(process: subprocess.Popen[bytes], sources: Sequence[ReportLines]) -> int:
    """Pass on what a program reports until it ends; its exit code. Raises reporting.Stop when its point is stopped."""
    while True:
        code: Optional[int]
        try:
            code = process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            code = None  # it runs on
        for source in sources:
            for step, values in source.new():
                if reporting.hear(step, values):
                    _end(process)
                    raise reporting.Stop(f"stopped early at step {step:g}")
        if code is not None:
            return code


def _end(process: subprocess.Popen[bytes]) -> None:
    """TERM, a grace to save what it has, KILL for it and its children."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        processes.send([*processes.descendants(process.pid), process.pid], signal.SIGKILL)
        process.wait()
