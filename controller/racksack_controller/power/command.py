"""Programs of the owner's: a PDU, a smart plug, `virsh`. Argument vectors only, no shell.

`status` is read from the first word of the output, or from the exit code with `status_by: exit` (0 on, 1 off).
The word is the default because a script that crashes also ends with 1, and a crash must not read as off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from racksack_controller import programs
from racksack_controller.power import driver as contract
from racksack_controller.power.driver import ONCE, CheckReport, PowerError, PowerReading, PowerState
from racksack_controller.power.settings import CommandSettings

WORDS_ON = frozenset({"on", "running", "up", "1", "true", "active", "yes"})
WORDS_OFF = frozenset({"off", "shut", "shutoff", "stopped", "down", "0", "false", "inactive", "no"})
WORDS_TRANSITION = frozenset({"starting", "stopping", "booting", "poweringon", "poweringoff", "transition", "in"})


class CommandDriver:
    """The commands of one server."""

    from_inside = False
    asks = ONCE

    def __init__(self, settings: CommandSettings, name: str = "command") -> None:
        first = settings.on or settings.off or settings.soft_off or settings.status
        self.name = name
        self.target = f"what {first[0] if first else 'no command'} controls"
        self._settings = settings

    @property
    def knows_state(self) -> bool:
        """Whether a status command was given."""
        return bool(self._settings.status)

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """What the status command says; unknown without one."""
        if not self._settings.status:
            return PowerReading(PowerState.UNKNOWN, "no status command")
        code, stdout, stderr = await self._run(contract.STATUS, self._settings.status, timeout_s)
        word = (stdout.split() or [""])[0].strip(":,.").lower()
        reading = _by_exit(code) if self._settings.status_by == "exit" else _by_word(word)
        if reading.state is PowerState.UNKNOWN and code != 0:
            raise self._failed(contract.STATUS, self._settings.status, code, stderr)
        return reading

    async def on(self, timeout_s: float | None = None) -> None:
        """Run the `on` command."""
        await self._act(contract.ON, self._settings.on, "on", PowerState.ON, timeout_s)

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """Run the `soft_off` command."""
        await self._act(contract.SOFT_OFF, self._settings.soft_off, "soft_off", PowerState.OFF, timeout_s)

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """Run the `off` command."""
        await self._act(contract.HARD_OFF, self._settings.off, "off", PowerState.OFF, timeout_s)

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """The number that the `watts` command prints; None without one."""
        if not self._settings.watts:
            return None
        code, stdout, stderr = await self._run(contract.WATTS, self._settings.watts, timeout_s)
        try:
            if code == 0:
                return float(stdout.split()[0])
        except (ValueError, IndexError) as error:
            raise contract.PowerProtocolError(
                self.name, contract.WATTS, self.target, f"it printed {stdout[:60]!r}", "it must print a number first"
            ) from error
        raise self._failed(contract.WATTS, self._settings.watts, code, stderr)

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """Run the status and watts commands; whether the others can be run at all."""
        settings = self._settings
        commands = {"on": settings.on, "off": settings.off, "soft_off": settings.soft_off}
        problems = [
            f"{self.name} could not find {argv[0]!r}; install it or correct the path in `{key}`"
            for key, argv in commands.items()
            if argv and not _runnable(argv[0])
        ]
        reading, watts = PowerReading(PowerState.UNKNOWN, ""), None
        try:
            reading = await self.status(timeout_s)
            watts = await self.watts(timeout_s)
        except PowerError as error:
            problems.append(str(error))
        allowed = tuple(key for key, argv in commands.items() if argv)
        return CheckReport(
            self.name, self.target, reading.state, reset_types=allowed, watts=watts, problems=tuple(problems)
        )

    async def close(self) -> None:
        """Nothing is held between calls."""

    async def _act(
        self, act: str, argv: tuple[str, ...], key: str, wanted: PowerState, timeout_s: float | None
    ) -> None:
        """Run a command; when it fails but the server is in the wanted state, that is success."""
        if not argv:
            raise contract.cannot(self, act, f"give the command driver a command `{key}`")
        code, _, stderr = await self._run(act, argv, timeout_s)
        if code == 0:
            return
        if self.knows_state and (await self.status(timeout_s)).state is wanted:
            return
        raise self._failed(act, argv, code, stderr)

    async def _run(self, act: str, argv: Sequence[str], timeout_s: float | None) -> tuple[int, str, str]:
        limit_s = self._settings.timeout_s if timeout_s is None else timeout_s
        try:
            return await run(argv, limit_s)
        except TimeoutError as error:
            came_back = f"{argv[0]} did not end within {limit_s:g} s and was killed"
            raise contract.PowerTimedOut(
                self.name, act, self.target, came_back, "check its state before trying again"
            ) from error
        except OSError as error:
            came_back = f"{argv[0]} cannot be run ({error.strerror or error})"
            raise contract.PowerUnreachable(
                self.name, act, self.target, came_back, "install it or correct its path"
            ) from error

    def _failed(self, act: str, argv: Sequence[str], code: int, stderr: str) -> PowerError:
        said = (stderr.strip().splitlines() or [""])[-1][:200]
        came_back = f"{argv[0]} ended with {code}" + (f" ({said})" if said else "")
        return contract.PowerNotAllowed(
            self.name, act, self.target, came_back, "run it by hand as the controller's user to see why"
        )


async def run(argv: Sequence[str], timeout_s: float) -> tuple[int, str, str]:
    """Run a program: exit code, stdout, stderr. Past the limit it is killed with all its children.

    Raises TimeoutError, and OSError when it cannot be started.
    """
    code, stdout, stderr = await programs.run(argv, timeout_s=timeout_s, keep="first")
    return code, stdout.decode(errors="replace"), stderr.decode(errors="replace")


def _runnable(program: str) -> bool:
    directories = [""] if "/" in program else os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(Path(directory) / program, os.X_OK) for directory in directories)


def _by_exit(code: int) -> PowerReading:
    states = {0: PowerState.ON, 1: PowerState.OFF}
    return PowerReading(states.get(code, PowerState.UNKNOWN), f"exit code {code}")


def _by_word(word: str) -> PowerReading:
    for words, state in (
        (WORDS_ON, PowerState.ON),
        (WORDS_OFF, PowerState.OFF),
        (WORDS_TRANSITION, PowerState.TRANSITION),
    ):
        if word in words:
            return PowerReading(state, word)
    return PowerReading(PowerState.UNKNOWN, word)
