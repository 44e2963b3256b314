"""Folders that are half an attempt: still being made, or already being removed.

Each carries the name of the `serve` that is at it. Once that one has ended (it waits for nobody, and may be killed),
any other takes the folder away.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import time
from typing import Any, Callable

from racksack_agent import processes
from racksack_agent.home import AttemptFolder, Home

_NAME = re.compile(r"\..+-(\d+)-(\d+)-\d+")


def half_of(folder: AttemptFolder) -> AttemptFolder:
    """Where this process makes or removes an attempt; a new name each time."""
    process, started = processes.name_of(os.getpid())
    return folder.home.attempt(f".{folder.name}-{process}-{started}-{time.monotonic_ns()}")


def left_behind(home: Home) -> list[str]:
    """The names of those whose `serve` has ended."""
    return [name for name in os.listdir(home.attempts) if name.startswith(".") and not _has_owner(name)]


def _has_owner(name: str) -> bool:
    parts = _NAME.fullmatch(name)
    if parts is None:
        return False
    owner = [int(part) for part in parts.groups()]
    return bool(processes.name_of(owner[0]) == owner)


def remove_tree(path: str) -> None:
    """Remove a folder, those inside that the job closed to itself included. What is gone already, since another is at
    it as well, is as wanted. Raises OSError.
    """

    def open_up(function: Callable[..., Any], failed: str, _: Any) -> None:  # noqa: ANN401
        if not os.path.lexists(failed):
            return
        parent = os.path.dirname(failed)
        os.chmod(parent, stat.S_IRWXU)
        if os.path.isdir(failed) and not os.path.islink(failed):
            os.chmod(failed, stat.S_IRWXU)
            shutil.rmtree(failed, onerror=give_up)
        else:
            function(failed)

    def give_up(_: Callable[..., Any], failed: str, problem: Any) -> None:  # noqa: ANN401
        if os.path.lexists(failed):
            raise OSError(f"{failed} cannot be removed: {problem[1]}")

    try:
        shutil.rmtree(path, onerror=open_up)
    except RecursionError:  # folders nested a thousand deep; rm has no such limit
        subprocess.run(["rm", "-rf", "--", path], stdin=subprocess.DEVNULL, check=True)
