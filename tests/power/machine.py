"""The machine that a stand-in switches, as commands: so that it may be anything, down to a server in a namespace.

`status` ends with 0 when the machine is on and with another code when it is off.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Machine(Protocol):
    """What a BMC can do to its machine."""

    def is_on(self) -> bool: ...

    def on(self) -> None: ...

    def soft_off(self) -> None: ...

    def off(self) -> None: ...


@dataclass(frozen=True)
class Commands:
    """A machine's switches as argument vectors."""

    on: tuple[str, ...]
    off: tuple[str, ...]
    soft_off: tuple[str, ...]
    status: tuple[str, ...]


class CommandMachine:
    """A machine behind commands. One at a time, as the wires of a real mainboard."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self._lock = threading.Lock()

    def is_on(self) -> bool:
        return self._run(self.commands.status) == 0

    def on(self) -> None:
        self._run(self.commands.on)

    def soft_off(self) -> None:
        self._run(self.commands.soft_off)

    def off(self) -> None:
        self._run(self.commands.off)

    def _run(self, argv: tuple[str, ...]) -> int:
        with self._lock:
            return subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, timeout=60).returncode


class FileMachine(CommandMachine):
    """A machine that is a file: there means on. `events` tells what was done to it, by whichever process.

    While `deaf` exists it ignores a soft power-off, as a hung system does.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._power = directory / "power"
        self._events = directory / "events"
        self._deaf = directory / "deaf"
        script = directory / "switch"
        script.write_text(
            "#!/bin/sh\n"
            f"cd {shlex.quote(str(directory))} || exit 9\n"
            'case $1 in status) test -e power; exit $?;; esac\necho "$1" >>events\n'
            "case $1 in on) : >power;; off) rm -f power;; soft_off) test -e deaf || rm -f power;; esac\n"
        )
        script.chmod(0o755)
        words = ("on", "off", "soft_off", "status")
        super().__init__(Commands(*((str(script), word) for word in words)))

    @property
    def events(self) -> list[str]:
        return self._events.read_text().split() if self._events.exists() else []

    @property
    def deaf(self) -> bool:
        return self._deaf.exists()

    @deaf.setter
    def deaf(self, value: bool) -> None:
        if value:
            self._deaf.touch()
        else:
            self._deaf.unlink(missing_ok=True)


def add_arguments(parser: argparse.ArgumentParser, port: int) -> None:
    """The options every stand-in has: where to listen, whom to let in, what to switch."""
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", default="secret", help="of the stand-in; it protects nothing")
    for word in ("on", "off", "status"):
        parser.add_argument(f"--{word}", required=True, type=split, help="command, quoted as for a shell")
    parser.add_argument("--soft-off", type=split, help="command; default: that of --off")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE", help="see Faults")


def machine_of(arguments: argparse.Namespace) -> CommandMachine:
    return CommandMachine(commands_of(arguments))


def commands_of(arguments: argparse.Namespace) -> Commands:
    soft_off = arguments.soft_off or arguments.off
    return Commands(arguments.on, arguments.off, soft_off, arguments.status)


def split(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def set_faults(faults: object, settings: list[str]) -> None:
    """Set the attributes named in `name=value` words, keeping the type of each default."""
    for setting in settings:
        name, _, value = setting.partition("=")
        default = getattr(faults, name)
        if isinstance(default, bool):
            setattr(faults, name, value in ("1", "true", "yes"))
        elif isinstance(default, tuple):
            setattr(faults, name, tuple(value.split(",")) if value else ())
        elif isinstance(default, (int, float)):
            setattr(faults, name, type(default)(value))
        else:
            setattr(faults, name, value)


def wait_for_end() -> None:
    """Until the process is ended from outside."""
    while True:
        time.sleep(3600)
