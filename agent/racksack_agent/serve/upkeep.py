"""What a `serve` needs while it runs, looked after once a second: folders that somebody removed are made again, and
what cannot be repaired from here is said, so that the controller starts us anew.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import List, Optional

from racksack_agent.command_line import PACKAGE
from racksack_agent.home import Home
from racksack_agent.records import pipe_suffix


class AgentRemovedError(Exception):
    """The files of this agent are gone: what it starts from now on would fail."""


def check_package(package: str = PACKAGE) -> None:
    """Raises AgentRemovedError when our own files are no longer there. Jobs do not notice; we are sent again."""
    if not os.path.exists(package + "/__main__.py"):
        raise AgentRemovedError(f"the agent's files were removed from {os.path.dirname(package)}; they are sent again")


class Complaint:
    """Says what is wrong on stderr, once as long as it stays the same."""

    def __init__(self) -> None:
        self._said = ""

    def say(self, sentence: str) -> None:
        """An empty sentence: nothing is wrong any more."""
        if sentence != self._said:
            self._said = sentence
            if sentence:
                print(sentence, file=sys.stderr, flush=True)


class NewsPipe:
    """The named pipe that supervisors write into. It appears in the folder only once it is open (see
    `records.tell`). Where none can be made, on a disk without inodes for example, news are found at the next scan.
    """

    def __init__(self, home: Home) -> None:
        self._folder = home.run
        self._path = ""
        self._file: Optional[int] = None

    def ensure(self) -> None:
        """Make it, also again after somebody removed it. Raises OSError."""
        if self._file is not None and os.path.lexists(self._path):
            return
        self.close()
        path = f"{self._folder}/{os.getpid()}-{time.time_ns()}{pipe_suffix()}"
        beside = path + ".new"
        os.mkfifo(beside, 0o600)
        try:
            self._file = os.open(beside, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            os.rename(beside, path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            self.close()
            raise
        self._path = path

    def files(self) -> List[int]:
        """The descriptor to wait at, if there is one."""
        return [] if self._file is None else [self._file]

    def names(self) -> List[str]:
        """The attempts that changed, each once, in the order of their first change."""
        try:
            data = os.read(self._file, 1 << 16) if self._file is not None else b""
        except BlockingIOError:
            return []
        return list(dict.fromkeys(data.decode(errors="replace").split()))

    def close(self) -> None:
        """Remove it."""
        if self._path and os.path.lexists(self._path):
            os.unlink(self._path)
        if self._file is not None:
            os.close(self._file)
        self._path, self._file = "", None
