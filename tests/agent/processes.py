"""What runs on this machine, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def with_word(word: str) -> list[int]:
    """The processes that have a word in their command line or environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
            except OSError:
                continue
            if word.encode() in text:
                found.append(int(folder.name))
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Look every few milliseconds, with a bound."""
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s, "it did not become true in time"
        time.sleep(0.01)


def listed(folder: str | Path) -> list[str]:
    """The names in a folder."""
    return [path.name for path in Path(folder).iterdir()]


def kill_all_that_watch(home: Path, attempt: str) -> None:
    """End the supervisor of an attempt and the process that waits for its program at once, as a crash would. The
    supervisor is stopped first, or it would go on alone.
    """
    folder = home / "attempts" / attempt
    supervisor = int((folder / "lock").read_text())
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(json.loads((folder / "job.json").read_text())["reaper"][0], signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
