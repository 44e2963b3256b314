"""iLO 2, 3 and 4 by RIBCL, HP's XML protocol, on python-hpilo: for the second-hand servers whose iLO has no Redfish.

RIBCL logs in with every request and keeps no session. Their TLS is old; `docs/power-drivers.md` names the firmware
that still talks to today's OpenSSL. A power button pressed in the wrong state does the opposite, so the state is read
first.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable
from typing import Any, TypeVar
from xml.etree.ElementTree import ParseError

import hpilo

from racksack_controller.power import driver as contract
from racksack_controller.power.blocking import Worker
from racksack_controller.power.driver import ONCE, CheckReport, PowerError, PowerReading, PowerState
from racksack_controller.power.secret import SecretError
from racksack_controller.power.settings import IloSettings
from racksack_controller.power.tls import PinnedContext, fetch_fingerprint, make_context

T = TypeVar("T")

# hpilo warns about every remark an iLO makes; what matters arrives as an exception.
warnings.filterwarnings("ignore", category=hpilo.IloWarning)

REQUEST_TIMEOUT_S = 20.0
_STATES = {"on": PowerState.ON, "off": PowerState.OFF}


class IloDriver:
    """One iLO, one call at a time."""

    knows_state = True
    from_inside = False
    asks = ONCE

    def __init__(self, settings: IloSettings, name: str = "ilo") -> None:
        self.name = name
        self.target = settings.host if settings.port == 443 else f"{settings.host} port {settings.port}"
        self._settings = settings
        self._worker = Worker(name)
        self._protocol: int | None = None
        self._context: PinnedContext | None = None

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """Host power: iLOs know ON and OFF, nothing between."""
        return await self._call(contract.STATUS, _reading, timeout_s)

    async def on(self, timeout_s: float | None = None) -> None:
        """Press the virtual power button of a server that is off."""

        def work(ilo: Any) -> None:  # noqa: ANN401 - hpilo has no types
            if _reading(ilo).state is not PowerState.ON:
                ilo.set_host_power(True)

        await self._call(contract.ON, work, timeout_s)

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """Press the virtual power button of a server that is on, which its system answers by shutting down."""

        def work(ilo: Any) -> None:  # noqa: ANN401 - hpilo has no types
            if _reading(ilo).state is not PowerState.OFF:
                ilo.press_pwr_btn()

        await self._call(contract.SOFT_OFF, work, timeout_s)

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """Hold the virtual power button of a server that is on."""

        def work(ilo: Any) -> None:  # noqa: ANN401 - hpilo has no types
            if _reading(ilo).state is not PowerState.OFF:
                ilo.hold_pwr_btn()

        await self._call(contract.HARD_OFF, work, timeout_s)

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """The present power reading; None where model or licence has none."""
        return await self._call(contract.WATTS, _watts, timeout_s)

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """Log in, read state, model, firmware and watts."""
        try:
            return await self._call(contract.STATUS, self._inspect, timeout_s)
        except PowerError as error:
            return CheckReport(self.name, self.target, problems=(str(error),))

    async def close(self) -> None:
        """Nothing is held between calls."""

    async def _call(self, act: str, work: Callable[[Any], T], timeout_s: float | None) -> T:
        limit_s = self._settings.timeout_s if timeout_s is None else timeout_s
        try:
            return await self._worker.call(lambda: self._translated(act, work, limit_s), limit_s)
        except TimeoutError as error:
            came_back = str(error) or f"no answer within {limit_s:g} s"
            raise contract.PowerTimedOut(
                self.name, act, self.target, came_back, "check its state before trying again"
            ) from error

    def _translated(self, act: str, work: Callable[[Any], T], limit_s: float) -> T:
        """Run `work` in the thread; whatever hpilo raises leaves as a PowerError."""
        try:
            ilo = self._open(limit_s)
            result = work(ilo)
        except SecretError as error:
            raise self._error(
                contract.PowerPasswordMissing, act, str(error), "fix password_file or credential"
            ) from error
        except (hpilo.IloError, OSError) as error:
            raise self._from_hpilo(act, error) from error
        except (ParseError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            came_back = f"its answer is not RIBCL ({self._settings.secret.scrub(str(error))})"
            advice = "check that the address is that of an iLO 2, 3 or 4 and not of a newer one"
            raise self._error(contract.PowerProtocolError, act, came_back, advice) from error
        self._protocol = ilo.protocol
        return result

    def _open(self, limit_s: float) -> Any:  # noqa: ANN401 - hpilo has no types
        settings = self._settings
        password = settings.secret.read()
        if '"' in password:
            raise SecretError("RIBCL cannot carry a password with a double quote in it")
        context = make_context(settings.trust)
        if settings.trust.by_authority:
            context.host = settings.host
        self._context = context
        # By address: hpilo connects to every address a name has, and takes `localhost` to mean a local tool.
        address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][4][0]
        return hpilo.Ilo(
            address,
            settings.user,
            password,
            timeout=min(limit_s, REQUEST_TIMEOUT_S),
            port=settings.port,
            protocol=self._protocol,
            ssl_context=context,
        )

    def _from_hpilo(self, act: str, error: Exception) -> PowerError:
        said = self._settings.secret.scrub(" ".join(str(error).split()))
        pinned, seen = (self._context.pinned, self._context.seen) if self._context else (None, None)
        if pinned is not None and seen not in (None, pinned):
            return self._error(
                contract.PowerUntrusted,
                act,
                f"it showed certificate {seen} instead of {pinned}",
                "compare it with the certificate on the iLO's own page and set `fingerprint`",
            )
        if "certificate verify failed" in said.lower():
            shown = fetch_fingerprint(self._settings.host, self._settings.port, 5.0, legacy=True)
            return self._error(
                contract.PowerUntrusted,
                act,
                f"its certificate is not signed by a trusted authority ({shown})",
                "compare it with the certificate on the iLO's own page and set `fingerprint`",
            )
        if isinstance(error, hpilo.IloLoginFailed):
            return self._error(
                contract.PowerLoginRefused,
                act,
                f"it refused user {self._settings.user!r} ({said})",
                "check user and password",
            )
        if isinstance(error, (hpilo.IloPermissionError, hpilo.IloFeatureNotSupported, hpilo.IloLicenseKeyError)):
            return self._error(
                contract.PowerNotAllowed,
                act,
                f"the iLO says {said!r}",
                "give the user the right Virtual Power and Reset, or use another driver",
            )
        if isinstance(error, (ssl.SSLError, hpilo.IloCommunicationError, OSError)):
            return self._unreachable(act, said)
        return self._error(
            contract.PowerProtocolError, act, f"the iLO says {said!r}", "try again, or use another driver"
        )

    def _unreachable(self, act: str, said: str) -> PowerError:
        if "ssl" in said.lower():
            advice = "update the iLO to its last firmware, the older ones speak only SSL 3"
            return self._error(contract.PowerUnreachable, act, f"TLS failed ({said})", advice)
        if "timed out" in said.lower() and "connecting" not in said.lower():
            return self._error(contract.PowerTimedOut, act, "no answer in time", "check its state before trying again")
        return self._error(
            contract.PowerUnreachable, act, said, "check the address, the cable and that the iLO has booted"
        )

    def _error(self, kind: type[PowerError], act: str, came_back: str, advice: str) -> PowerError:
        return kind(self.name, act, self.target, came_back, advice)

    def _inspect(self, ilo: Any) -> CheckReport:  # noqa: ANN401 - hpilo has no types
        firmware = ilo.get_fw_version()
        exposed = self._settings.secret.exposed()
        return CheckReport(
            self.name,
            self.target,
            state=_reading(ilo).state,
            model=str(ilo.get_product_name()),
            firmware=f"{firmware['management_processor']} {firmware['firmware_version']}",
            reset_types=("power on", "press button", "hold button"),
            watts=_watts(ilo),
            problems=(exposed,) if exposed else (),
        )


def _reading(ilo: Any) -> PowerReading:  # noqa: ANN401 - hpilo has no types
    word = str(ilo.get_host_power_status())
    return PowerReading(_STATES.get(word.lower(), PowerState.UNKNOWN), word)


def _watts(ilo: Any) -> float | None:  # noqa: ANN401 - hpilo has no types
    try:
        readings = ilo.get_power_readings()
    except (hpilo.IloFeatureNotSupported, hpilo.IloLicenseKeyError):
        return None
    except hpilo.IloError as error:
        # Models without the sensor answer the request itself as a syntax error.
        if "syntax error" in str(error).lower():
            return None
        raise
    present = readings.get("present_power_reading")
    return float(present[0]) if isinstance(present, tuple) else None
