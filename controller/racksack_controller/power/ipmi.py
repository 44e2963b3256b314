"""IPMI 2.0 over LAN (lanplus): nearly every server BMC since 2005 that has no usable Redfish.

Each call logs in and out: IPMI sessions are few, die after a minute without traffic, and are cheap.
Watts come from the DCMI power reading, which many BMCs have and old ones have not.
"""

from __future__ import annotations

import json
from typing import Any

from racksack_controller.power import driver as contract
from racksack_controller.power.driver import ONCE, CheckReport, PowerError, PowerReading, PowerState
from racksack_controller.power.ipmi_helper import HelperGone, IpmiHelper
from racksack_controller.power.secret import SecretError
from racksack_controller.power.settings import IpmiSettings

_STATES = {"on": PowerState.ON, "off": PowerState.OFF}
_ACTS = {
    "status": contract.STATUS,
    "on": contract.ON,
    "soft_off": contract.SOFT_OFF,
    "hard_off": contract.HARD_OFF,
    "watts": contract.WATTS,
    "check": contract.STATUS,
}

# Completion codes of a command that this BMC does not have, or not now (IPMI 2.0, table 5-2).
CODES_NOT_THERE = (0xC1, 0xC2, 0xC9, 0xCB, 0xD4, 0xD6)
CODES_NOT_NOW = (0xC0, 0xD5)
_LOGIN_WORDS = ("password", "unauthorized name", "privilege", "privelege", "user name", "username", "role")


class IpmiDriver:
    """One BMC. The helper process is shared and belongs to whoever made it."""

    knows_state = True
    from_inside = False
    asks = ONCE

    def __init__(self, settings: IpmiSettings, helper: IpmiHelper, name: str = "ipmi") -> None:
        self.name = name
        self.target = settings.host if settings.port == 623 else f"{settings.host} port {settings.port}"
        self._settings = settings
        self._helper = helper

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """Chassis status: IPMI knows on and off, nothing between."""
        word = str(await self._ask("status", timeout_s))
        return PowerReading(_STATES.get(word, PowerState.UNKNOWN), word)

    async def on(self, timeout_s: float | None = None) -> None:
        """Chassis control: power up."""
        await self._ask("on", timeout_s)

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """Chassis control: soft shutdown through ACPI."""
        await self._ask("soft_off", timeout_s)

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """Chassis control: power down."""
        await self._ask("hard_off", timeout_s)

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """DCMI power reading; None where the BMC has none. Zero on a running server also means none."""
        try:
            return float(await self._ask("watts", timeout_s)) or None
        except contract.PowerNotAllowed:
            return None

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """Log in, read device id, state and watts."""
        try:
            device = await self._ask("check", timeout_s)
            watts = await self.watts(timeout_s)
        except PowerError as error:
            return CheckReport(self.name, self.target, problems=(str(error),))
        exposed = self._settings.secret.exposed()
        return CheckReport(
            self.name,
            self.target,
            state=_STATES.get(device["powerstate"], PowerState.UNKNOWN),
            model=f"manufacturer {device['manufacturer_id']} product {device['product_id']}",
            firmware=str(device["firmware_version"]),
            reset_types=("power up", "soft shutdown", "power down"),
            watts=watts,
            problems=(exposed,) if exposed else (),
        )

    async def close(self) -> None:
        """Nothing is held between calls."""

    async def _ask(self, act: str, timeout_s: float | None) -> Any:  # noqa: ANN401 - JSON; each caller knows its shape
        settings = self._settings
        limit_s = settings.timeout_s if timeout_s is None else timeout_s
        try:
            request = {
                "act": act,
                "host": settings.host,
                "port": settings.port,
                "user": settings.user,
                "privilege": settings.privilege,
                "password": settings.secret.read(),
            }
            reply = await self._helper.ask(request, limit_s)
        except SecretError as error:
            raise self._error(
                contract.PowerPasswordMissing, act, str(error), "fix password_file or credential"
            ) from error
        except TimeoutError as error:
            came_back = f"no answer within {limit_s:g} s"
            raise self._error(contract.PowerTimedOut, act, came_back, "check its state before trying again") from error
        except (HelperGone, OSError, json.JSONDecodeError) as error:
            raise self._error(contract.PowerProtocolError, act, str(error), "try again") from error
        if "error" in reply:
            raise self._from_reply(act, reply)
        return reply["ok"]

    def _from_reply(self, act: str, reply: dict[str, Any]) -> PowerError:
        said, code = self._settings.secret.scrub(str(reply["error"])), int(reply["code"])
        lowered = said.lower()
        if code in CODES_NOT_THERE:
            return self._error(
                contract.PowerNotAllowed,
                act,
                f"the BMC says {said!r} (code {code:#x})",
                "check that the user has operator rights, or use another driver",
            )
        if code in CODES_NOT_NOW:
            return self._error(
                contract.PowerNotAllowed, act, f"the BMC says {said!r} (code {code:#x})", "try again in a while"
            )
        if any(word in lowered for word in _LOGIN_WORDS):
            advice = "check user and password, and that IPMI over LAN is switched on for that user"
            return self._error(
                contract.PowerLoginRefused, act, f"it refused user {self._settings.user!r} ({said})", advice
            )
        if reply.get("login") or "no longer connected" in lowered or "timeout" in lowered:
            came_back = "nothing answered" if said in ("None", "timeout", "") else said
            advice = "check the address, that UDP port 623 is open, and that IPMI over LAN is switched on in the BMC"
            return self._error(contract.PowerUnreachable, act, came_back, advice)
        return self._error(
            contract.PowerProtocolError, act, f"it answered {said!r}", "try again, or use another driver"
        )

    def _error(self, kind: type[PowerError], act: str, came_back: str, advice: str) -> PowerError:
        return kind(self.name, _ACTS[act], self.target, came_back, advice)
