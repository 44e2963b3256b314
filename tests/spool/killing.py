"""Kills a process at the n-th change that it makes to the file system, for every n: what a crash can leave behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("mkdir", "rename", "replace", "link", "symlink", "unlink", "rmdir", "chmod", "utime", "write", "fsync")

# A server that has imported all that is needed forks each process, which saves an interpreter's start for each of them.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.spool.test_projects", "tests.spool.test_rejecting"])


def kill_at(number: int, when: str) -> None:
    """Count the calls that change something, and die before or after one of them as by `kill -9`."""
    count = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == number and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = change(*arguments, **options)
            if count == number and when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def _run(work: Callable[[Path], None], folder: Path, number: int, when: str) -> None:
    kill_at(number, when)
    work(folder)


def run_until_killed(work: Callable[[Path], None], folder: Path, number: int, when: str) -> bool:
    """Do `work` on a folder in another process, killed at its n-th change; whether it got to its end before that."""
    process = _FORKS.Process(target=_run, args=(work, folder, number, when))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return process.exitcode == 0
