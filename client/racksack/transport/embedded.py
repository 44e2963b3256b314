"""The embedded controller: started when a command needs it and none is configured.

It is a process of its own that outlives the command; jobs go on when the terminal is closed. Of two
commands at once one starts it and the other waits; the spool's lock lets only one live in any case.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from racksack.errors import NotInstalledError, RacksackError, UnreachableError
from racksack.transport.connection import is_listening
from racksack.transport.target import Target

START_TIMEOUT_S = 30.0
STARTS_MAX = 2
_LOOK_EVERY_S = 0.02
_START_PAUSE_S = 1.0
_NEEDED = ("aiohttp", "asyncssh", "jinja2", "numpy", "psutil", "watchdog")


def ensure_running(target: Target) -> None:
    """Start the embedded controller unless one answers. Raises a RacksackError with its last words if that fails."""
    home = target.home
    if home is None or is_listening(target):
        return
    check_installed("no controller is configured, and this machine cannot run one")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RacksackError(f"{home} cannot be made: {error.strerror}; set RACKSACK_HOME to another place") from error
    log = home / "controller.log"
    with open(home / "starting.lock", "a") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)  # for as long as another command waits for the one it started
        if not is_listening(target):
            _start_and_wait(target, home, log)


def check_installed(otherwise: str) -> None:
    """Raise a NotInstalledError that begins with `otherwise` unless the controller's part is installed here."""
    missing = [name for name in ("racksack_controller", *_NEEDED) if importlib.util.find_spec(name) is None]
    if missing:
        from racksack_jobspecs.origin import install_hint

        raise NotInstalledError(
            f"{otherwise} ({missing[0]} is not installed): {install_hint()}, or "
            "name a controller with --controller user@host, RACKSACK_CONTROLLER or ~/.config/racksack/client.yaml"
        )


def _start(home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start it detached from this terminal. What it prints before it can log goes to its log."""
    argv = [sys.executable, "-P", "-m", "racksack_controller", "--embedded", "--home", str(home)]
    with open(log, "ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=home, start_new_session=True
        )


def _start_and_wait(target: Target, home: Path, log: Path) -> None:
    """Start it until it answers. One that ends at once gets a second chance: the one before it may just be stopping."""
    deadline = time.monotonic() + START_TIMEOUT_S
    starts_left = STARTS_MAX
    process: subprocess.Popen[bytes] | None = None
    while time.monotonic() < deadline:
        if is_listening(target):
            if process is not None:
                process.returncode = process.poll() or 0  # it is meant to outlive us: no warning about it
            return
        if process is None or process.poll() is not None:
            if starts_left == 0:
                raise UnreachableError(f"the embedded controller did not start: {_last_line(log)} (see {log})")
            if process is not None:
                time.sleep(_START_PAUSE_S)
            starts_left -= 1
            process = _start(home, log)
        time.sleep(_LOOK_EVERY_S)
    said = _last_line(log)
    raise UnreachableError(f"the embedded controller did not answer within {START_TIMEOUT_S:.0f} s: {said} (see {log})")


def _last_line(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no log")
