"""Redfish: HPE iLO 4 (2.30 or later), 5 and 6, Dell iDRAC, Supermicro, OpenBMC and others of the last ten years.

Reset types differ between BMCs and firmware versions, so `AllowableValues` are known before one is chosen, and read
anew when none of them is accepted: a BMC may take half a minute for each answer. A refusal is success when the server
is in the wanted state by then. PowerState lags behind the actions; nothing here trusts it except before the power
button is pushed, which would do the opposite in the wrong state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import sushy.exceptions

from racksack_controller.power import driver as contract
from racksack_controller.power.blocking import Worker
from racksack_controller.power.driver import ONCE, CheckReport, PowerError, PowerReading, PowerState
from racksack_controller.power.redfish_session import RedfishSession, ResetAction, SystemChoiceError
from racksack_controller.power.secret import SecretError
from racksack_controller.power.settings import RedfishSettings
from racksack_controller.power.tls import fetch_fingerprint

T = TypeVar("T")

PUSH = "PushPowerButton"
RESET_ON = ("On", "ForceOn", PUSH)
RESET_SOFT_OFF = ("GracefulShutdown", PUSH)
RESET_HARD_OFF = ("ForceOff",)
CLOSE_TIMEOUT_S = 5.0
REQUESTS_MAX = 8  # of one call: root, login, collection, system, ActionInfo, reset, and two to spare

_STATES = {
    "On": PowerState.ON,
    "Off": PowerState.OFF,
    "PoweringOn": PowerState.TRANSITION,
    "PoweringOff": PowerState.TRANSITION,
    "Reset": PowerState.TRANSITION,
}


class RedfishDriver:
    """One BMC, one session, one call at a time."""

    knows_state = True
    from_inside = False
    asks = ONCE

    def __init__(self, settings: RedfishSettings, name: str = "redfish") -> None:
        self.name = name
        self.target = settings.url
        self._settings = settings
        self._worker = Worker(name)
        self._session: RedfishSession | None = None

    async def status(self, timeout_s: float | None = None) -> PowerReading:
        """PowerState; words that are not in the standard come back as unknown, with the word."""
        return await self._call(contract.STATUS, lambda session: _reading(session.system()), timeout_s)

    async def on(self, timeout_s: float | None = None) -> None:
        """On, or ForceOn, or the power button."""
        await self._call(contract.ON, self._on, timeout_s)

    async def soft_off(self, timeout_s: float | None = None) -> None:
        """GracefulShutdown, or the power button where a BMC has only that (iLO 4)."""
        await self._call(
            contract.SOFT_OFF,
            lambda session: self._reset(session, contract.SOFT_OFF, RESET_SOFT_OFF, PowerState.OFF),
            timeout_s,
        )

    async def hard_off(self, timeout_s: float | None = None) -> None:
        """ForceOff."""
        await self._call(
            contract.HARD_OFF,
            lambda session: self._reset(session, contract.HARD_OFF, RESET_HARD_OFF, PowerState.OFF),
            timeout_s,
        )

    async def watts(self, timeout_s: float | None = None) -> float | None:
        """The draw of the system's chassis."""
        return await self._call(contract.WATTS, lambda session: session.watts(), timeout_s)

    async def check(self, timeout_s: float | None = None) -> CheckReport:
        """Log in, read state, reset types, model, firmware and watts."""
        try:
            report = await self._call(contract.STATUS, self._inspect, timeout_s)
        except PowerError as error:
            report = CheckReport(self.name, self.target, problems=(str(error),))
        return report

    async def close(self) -> None:
        """Delete the session at the BMC."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            await self._worker.call(session.close, CLOSE_TIMEOUT_S)
        except TimeoutError:
            return  # A BMC that hangs ends the session by its own time-out.

    async def _call(self, act: str, work: Callable[[RedfishSession], T], timeout_s: float | None) -> T:
        # A hung BMC is given up after one request's limit; one that takes half a minute for each answer is waited for.
        limit_s = REQUESTS_MAX * self._settings.timeout_s if timeout_s is None else timeout_s
        try:
            session = self._session = self._session or RedfishSession(self._settings)
        except OSError as error:
            raise self._untrusted(act, f"its ca_file cannot be read ({error})") from error
        try:
            return await self._worker.call(lambda: self._translated(act, session, work), limit_s, late=session.close)
        except TimeoutError as error:
            self._session = None
            came_back = str(error) or f"no answer within {limit_s:g} s"
            raise contract.PowerTimedOut(
                self.name, act, self.target, came_back, "check its state before trying again"
            ) from error
        except asyncio.CancelledError:
            self._session = None
            raise

    def _translated(self, act: str, session: RedfishSession, work: Callable[[RedfishSession], T]) -> T:
        """Run `work` in the thread; whatever the libraries raise leaves as a PowerError."""
        try:
            return work(session)
        except SecretError as error:
            raise contract.PowerPasswordMissing(
                self.name, act, self.target, str(error), "fix password_file or credential"
            ) from error
        except requests.exceptions.JSONDecodeError as error:
            raise self._nonsense(act, f"its answer is not JSON ({error})") from error
        except (sushy.exceptions.SushyError, requests.RequestException) as error:
            raise self._from_sushy(act, session, error) from error
        except SystemChoiceError as error:
            raise contract.PowerProtocolError(
                self.name, act, self.target, f"it has these systems: {error}", "name one of them as `system`"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._nonsense(act, f"its answer is not Redfish ({error})") from error

    def _from_sushy(self, act: str, session: RedfishSession, error: Exception) -> PowerError:
        settings = self._settings
        if isinstance(error, sushy.exceptions.AccessError):
            return contract.PowerLoginRefused(
                self.name,
                act,
                self.target,
                f"it refused user {settings.user!r} (HTTP {error.status_code})",
                "check user and password, and that the user may switch power",
            )
        if isinstance(error, sushy.exceptions.HTTPError):
            return self._nonsense(act, settings.secret.scrub(_said(error)))
        text = str(error)
        pinned, seen = session.context.pinned, session.context.seen
        if pinned is not None and seen not in (None, pinned):
            return self._untrusted(act, f"it showed certificate {seen} instead of {pinned}")
        if "certificate verify failed" in text:
            return self._untrusted(act, "its certificate is not signed by a trusted authority" + self._offer())
        if isinstance(error, (sushy.exceptions.ConnectionError, requests.RequestException)):
            return self._unreachable(act, text)
        return self._nonsense(act, settings.secret.scrub(text))

    def _unreachable(self, act: str, text: str) -> PowerError:
        if "Read timed out" in text:
            return contract.PowerTimedOut(
                self.name,
                act,
                self.target,
                f"no answer within {self._settings.timeout_s:g} s",
                "check its state before trying again",
            )
        if "another host" in text or "without end" in text:
            return self._nonsense(act, text.split("Error: ")[-1])
        return contract.PowerUnreachable(
            self.name, act, self.target, _cause(text), "check the address, the cable and that the BMC has booted"
        )

    def _untrusted(self, act: str, came_back: str) -> PowerError:
        advice = "compare it with the certificate on the BMC's own page and set `fingerprint`"
        return contract.PowerUntrusted(self.name, act, self.target, came_back, advice)

    def _nonsense(self, act: str, came_back: str) -> PowerError:
        advice = "check that the url is that of a BMC with Redfish switched on and current firmware"
        return contract.PowerProtocolError(self.name, act, self.target, came_back, advice)

    def _offer(self) -> str:
        """The fingerprint the device shows, for the owner to compare."""
        parts = urlsplit(self._settings.url)
        shown = fetch_fingerprint(parts.hostname or "", parts.port or 443, 5.0, legacy=self._settings.trust.legacy)
        return f" ({shown})" if shown else ""

    def _on(self, session: RedfishSession) -> None:
        self._reset(session, contract.ON, RESET_ON, PowerState.ON)

    def _reset(self, session: RedfishSession, act: str, types: tuple[str, ...], wanted: PowerState) -> None:
        """Post the first type that is allowed and accepted; a refusal in the wanted state is success.

        What is allowed is read anew when nothing of what was allowed before is accepted.
        """
        tried, refusal = None, ""
        for anew in (False, True):
            action = session.action(anew=anew)
            if action == tried:
                break
            tried = action
            said = self._post(session, action, act, types, wanted)
            if said is None:
                return
            refusal = said
        raise contract.PowerNotAllowed(
            self.name, act, self.target, refusal, "use another way for this, or try again when its state settles"
        )

    def _post(
        self, session: RedfishSession, action: ResetAction, act: str, types: tuple[str, ...], wanted: PowerState
    ) -> str | None:
        """Post the first type that is accepted: None; when none is, what the BMC said."""
        refusal = f"it allows only {', '.join(action.types)}"
        for reset_type in types:
            if action.types and reset_type not in action.types:
                continue
            if reset_type == PUSH and not self._push_would_help(act, _reading(session.system()), wanted):
                return None
            try:
                session.reset(action, reset_type)
            except sushy.exceptions.AccessError:
                raise
            except sushy.exceptions.HTTPError as error:
                if _reading(session.system()).state is wanted:
                    return None
                refusal = f"it refused {reset_type}: {self._settings.secret.scrub(_said(error))}"
            else:
                return None
        return refusal

    def _push_would_help(self, act: str, reading: PowerReading, wanted: PowerState) -> bool:
        """Whether the button would bring the wanted state. Raises PowerNotAllowed when it might do the opposite."""
        going_there = "PoweringOn" if wanted is PowerState.ON else "PoweringOff"
        if reading.state is wanted or reading.raw == going_there:
            return False
        if reading.state in (PowerState.ON, PowerState.OFF):
            return True
        raise contract.PowerNotAllowed(
            self.name,
            act,
            self.target,
            f"it has only a power button to push, and in state {reading.raw!r} that could do the opposite",
            "try again when its state settles",
        )

    def _inspect(self, session: RedfishSession) -> CheckReport:
        system = session.system()
        allowed = session.action().types
        exposed = self._settings.secret.exposed()
        problems = [exposed] if exposed else []
        for act, types in ((contract.ON, RESET_ON), (contract.HARD_OFF, RESET_HARD_OFF)):
            if allowed and not set(types) & set(allowed):
                problems.append(f"{self.target} has no reset type to {act} the server (only {', '.join(allowed)})")
        return CheckReport(
            self.name,
            self.target,
            state=_reading(system).state,
            model=" ".join(str(system[key]) for key in ("Manufacturer", "Model") if system.get(key)),
            firmware=session.firmware(system),
            reset_types=allowed,
            watts=session.watts(),
            problems=tuple(problems),
        )


def _reading(system: dict[str, Any]) -> PowerReading:
    raw = str(system.get("PowerState") or system.get("Power") or "missing")
    return PowerReading(_STATES.get(raw, PowerState.UNKNOWN), raw)


def _said(error: sushy.exceptions.HTTPError) -> str:
    """What the BMC said with a refusal, in one line: the message, or its id and arguments."""
    words = []
    details = error.extended_info
    for item in details if isinstance(details, list) else []:
        arguments = ", ".join(str(argument) for argument in item.get("MessageArgs") or [])
        message = item.get("Message") or item.get("MessageId") or item.get("MessageID") or ""
        words.append(f"{message} ({arguments})" if arguments and arguments not in message else str(message))
    said = " ".join(" ".join(words).split()) or str(error.detail or "").strip()
    return f"HTTP {error.status_code}" + (f" {said!r}" if said else "")


def _cause(text: str) -> str:
    """The last reason in the chain that urllib3 prints."""
    for sign, sentence in (
        ("Connection refused", "the connection was refused"),
        ("No route to host", "there is no route to it"),
        ("Network is unreachable", "the network is unreachable"),
        ("resolve", "its name cannot be resolved"),
        ("timed out", "nothing answered"),
        ("RemoteDisconnected", "it closed the connection without an answer"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
        ("HANDSHAKE_FAILURE", "TLS handshake failed; a very old BMC may need legacy_tls: true"),
        ("UNSUPPORTED_PROTOCOL", "it only supports old TLS versions; set legacy_tls: true"),
        ("DH_KEY_TOO_SMALL", "its TLS key is too short; set legacy_tls: true"),
    ):
        if sign.lower() in text.lower():
            return sentence
    return text.split("Error: ")[-1][:200]
