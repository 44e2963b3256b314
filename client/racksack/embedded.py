"""The embedded controller: started when a command needs it and none is configured.

It is a process of its own that outlives the command; jobs go on when the terminal is closed. Two commands at once may
both start one: the spool's lock lets only one live, and both find it through its socket.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from racksack.connection import is_listening
from racksack.errors import RacksackError, UnreachableError
from racksack.target import Target

START_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.02
_NEEDED = ("aiohttp", "asyncssh", "jinja2", "numpy", "psutil", "watchdog")


def ensure_running(target: Target) -> None:
    """Start the embedded controller unless one answers. Raises a RacksackError with its last words when it cannot
    start.
    """
    home = target.home
    if home is None or is_listening(target):
        return
    check_installed("no controller is named, and this machine cannot run one")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RacksackError(f"{home} cannot be made: {error.strerror}; set RACKSACK_HOME to another place") from error
    log = home / "controller.log"
    _wait_until_listening(target, _start(home, log), log)


def check_installed(otherwise: str) -> None:
    """Raise a RacksackError that begins with `otherwise` unless the controller's part is installed here."""
    missing = [name for name in ("racksack_controller", *_NEEDED) if importlib.util.find_spec(name) is None]
    if missing:
        raise RacksackError(
            f"{otherwise} ({missing[0]} is not installed): install it with `pip install 'racksack[controller]'`, or "
            "name a controller with --controller user@host, RACKSACK_CONTROLLER or ~/.config/racksack/client.yaml"
        )


def _start(home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start it detached from this terminal. What it prints before it can log goes to its log."""
    argv = [sys.executable, "-P", "-m", "racksack_controller", "--embedded", "--home", str(home)]
    with open(log, "ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=home, start_new_session=True
        )


def _wait_until_listening(target: Target, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    ended_at: float | None = None
    while time.monotonic() < deadline:
        if is_listening(target):
            process.returncode = process.poll() or 0  # it is meant to outlive us: no warning about it
            return
        if ended_at is None and process.poll() is not None:
            ended_at = time.monotonic()
        if ended_at is not None and time.monotonic() > ended_at + 3:  # another command's controller had its chance
            raise UnreachableError(f"the embedded controller did not start: {_last_line(log)} (see {log})")
        time.sleep(_LOOK_EVERY_S)
    raise UnreachableError(
        f"the embedded controller did not answer within {START_TIMEOUT_S:.0f} s: {_last_line(log)} (see {log})"
    )


def _last_line(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no log")
