"""The way to the fork server: started when first needed, and again if it died."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import List, Mapping, Optional

from racksack_agent import processes
from racksack_agent.command_line import agent_command
from racksack_agent.home import Home
from racksack_agent.serve.limit_choice import LimitChoice
from racksack_agent.supervisor.panes import Pane


class ForkServer:
    """One child process that forks supervisors. It ends when we do."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._lock = threading.Lock()

    def start(self, panes: Mapping[str, Pane], limit: LimitChoice) -> None:
        """Have a supervisor forked for each attempt. Raises OSError.

        What was read before a fork server died may be sent twice: the second supervisor of an attempt finds the lock
        taken.
        """
        if not panes:
            return
        with self._lock:
            lines = b"".join(self._line(attempt, pane) for attempt, pane in panes.items())
            try:
                self._send(lines, limit)
            except BrokenPipeError:
                self._process = None
                self._send(lines, limit)

    def keep_awake(self) -> None:
        """Continue it if somebody stopped it."""
        process = self._process
        if process is not None and process.poll() is None:
            processes.wake(process.pid)

    def _line(self, attempt: str, pane: Pane) -> bytes:
        start = {"folder": self._home.attempt(attempt).path, "terminal": pane.terminal, "pid": pane.pid}
        return json.dumps(start).encode() + b"\n"

    def _send(self, lines: bytes, limit: LimitChoice) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                limit.wrap(command(limit)), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(lines)
        self._process.stdin.flush()


def command(limit: LimitChoice) -> List[str]:
    """The command line of the fork server."""
    return [*agent_command("forkserver"), *(["--scope"] if limit.kind == "scope" else [])]
