"""Wake-on-LAN: can switch on, cannot tell whether it did, cannot switch off.

Packets get lost and network cards miss them while a server is still going down, so the ladder asks again (`asks`) until
the server comes up. They must go out on the server's own subnet: from here with `broadcast` set to that subnet's
broadcast address, or from a jump host.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence

import wakeonlan

from racksack_controller.power import driver as contract
from racksack_controller.power import wol_send
from racksack_controller.power.blocking import Worker
from racksack_controller.power.driver import Asks, CheckReport, PowerError, PowerReading, PowerState
from racksack_controller.power.settings import WolSettings

RunOn = Callable[[str, Sequence[str]], Awaitable[tuple[int, str, str]]]
"""Runs an argument vector on a named host: exit code, stdout, stderr. Raises OSError when it cannot be reached."""


class WolDriver:
    """One network card. Needs `run_on` only when the settings name a jump host."""

    knows_state = False
    from_inside = False

    def __init__(self, settings: WolSettings, run_on: RunOn | None = None, name: str = "wol") -> None:
        if settings.jump is not None and run_on is None:
            raise ValueError("a jump host needs a way to run programs on it")
        self.name = name
        self.asks = Asks(settings.repeats, settings.spacing_s)
        self.target = f"{settings.mac} by {settings.broadcast}" + (f" from {settings.jump}" if settings.jump else "")
        self._settings = settings
        self._run_on = run_on
        self._worker = Worker(name)

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """Always unknown."""
        return PowerReading(PowerState.UNKNOWN, "a magic packet has no reply")

    async def on(self, timeout_s: float | None = None) -> None:
        """Send one magic packet."""
        await self._send(contract.ON, 1, timeout_s)

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """Not possible."""
        raise contract.cannot(self, contract.SOFT_OFF, "add another driver to `off`")

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """Not possible."""
        raise contract.cannot(self, contract.HARD_OFF, "add another driver to `off`")

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """None: there is no sensor."""
        return None

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """Whether packets could be sent from where they should be; sends none, so nothing wakes."""
        try:
            await self._send("prepare to wake", 0, timeout_s)
        except PowerError as error:
            return CheckReport(self.name, self.target, problems=(str(error),))
        return CheckReport(self.name, self.target, reset_types=("wake",))

    async def close(self) -> None:
        """Nothing is held between calls."""

    async def _send(self, act: str, packets: int, timeout_s: float | None) -> None:
        limit_s = self._settings.timeout_s if timeout_s is None else timeout_s
        settings = self._settings
        packet = wakeonlan.create_magic_packet(settings.mac)
        interface = settings.interface or "-"
        try:
            if settings.jump is not None and self._run_on is not None:
                words = (packet.hex(), settings.broadcast, settings.port, interface, packets)
                await self._send_from_jump(self._run_on, settings.jump, words, limit_s, act)
            else:
                await self._worker.call(
                    lambda: wol_send.send(packet, settings.broadcast, settings.port, interface, packets), limit_s
                )
        except TimeoutError as error:
            raise self._error(contract.PowerTimedOut, act, f"not sent within {limit_s:g} s", "try again") from error
        except OSError as error:
            came_back = str(error.strerror or error)
            advice = "check `broadcast` (the server's own subnet), `interface`, and the jump host if there is one"
            raise self._error(contract.PowerUnreachable, act, came_back, advice) from error

    async def _send_from_jump(
        self, run_on: RunOn, jump: str, words: Sequence[object], limit_s: float, act: str
    ) -> None:
        argv = ["python3", "-c", inspect.getsource(wol_send), *(str(word) for word in words)]
        code, _, stderr = await contract.limited(run_on(jump, argv), limit_s)
        if code != 0:
            last = stderr.strip().splitlines()[-1:] or [f"exit code {code}"]
            advice = f"check that {jump} has python3 and lies on the server's subnet"
            raise self._error(contract.PowerNotAllowed, act, f"{jump} says {last[0]!r}", advice)

    def _error(self, kind: type[PowerError], act: str, came_back: str, advice: str) -> PowerError:
        return kind(self.name, act, self.target, came_back, advice)
