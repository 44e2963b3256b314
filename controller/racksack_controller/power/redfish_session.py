"""One login at a Redfish service, on sushy. Blocking: `redfish.py` calls it from a worker thread.

What sushy leaves to us, because BMCs need it:

- a request that changes something is sent once (sushy repeats any request after a broken connection, and a power button
  pushed twice is not a power button pushed once);
- a redirect (iLO sends them for a missing trailing slash) keeps method and body, and never leads to another host, which
  would hand it our session token;
- the environment's proxies and ~/.netrc are not for BMCs;
- a wrong password is tried once, to spare the account from being locked: sushy would try it again as Basic
  authentication. That is used only where the service root, which needs no login, offers no sessions.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import requests.adapters
import sushy
import sushy.auth
import sushy.connector
import sushy.exceptions

from racksack_controller.power.settings import RedfishSettings
from racksack_controller.power.tls import PinnedContext, make_context

# What goes wrong reaches our caller as an exception; sushy would log it as well.
logging.getLogger("sushy").setLevel(logging.CRITICAL)

REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MAX = 3


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, context: PinnedContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in the base class
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)


class _Connector(sushy.connector.Connector):  # type: ignore[misc] # sushy has no types
    def __init__(self, settings: RedfishSettings, context: PinnedContext) -> None:
        verify: bool | str = settings.trust.by_authority
        if verify and settings.trust.ca_file is not None:
            verify = str(settings.trust.ca_file)
        super().__init__(
            settings.url,
            verify=verify,
            server_side_retries=1,
            server_side_retries_delay=1,
            default_request_timeout=settings.timeout_s,
            connect_timeout=min(10.0, settings.timeout_s),
        )
        self._session.trust_env = False
        self._session.mount("https://", _Adapter(context))

    def _op(self, method: str, path: str = "", **options: Any) -> Any:  # noqa: ANN401 - as in the base class
        options["allow_redirects"] = False
        if method != "GET":
            options["server_side_retries_left"] = 0
        response = super()._op(method, path, **options)
        for _ in range(REDIRECTS_MAX):
            if response.status_code not in REDIRECTS:
                return response
            target = _same_host(response)
            response = super()._op(method, target, **options)
        raise sushy.exceptions.ConnectionError(url=path, error="it redirects without end")


def _same_host(response: requests.Response) -> str:
    """Where a redirect leads. Raises sushy's ConnectionError when that is another host."""
    target = urljoin(response.url, response.headers.get("Location", ""))
    here, there = urlsplit(response.url), urlsplit(target)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise sushy.exceptions.ConnectionError(
            url=response.url, error=f"it redirects to another host, {there.scheme}://{there.netloc}"
        )
    return target


class _Root(sushy.Sushy):  # type: ignore[misc] # sushy has no types
    def __del__(self) -> None:
        """Nothing: sushy would log out here, over the network, in whatever thread the garbage collector runs."""


class RedfishSession:
    """A login and the one system behind it. Methods raise sushy's and requests' exceptions, and SecretError."""

    def __init__(self, settings: RedfishSettings) -> None:
        self._settings = settings
        self.context = make_context(settings.trust)
        self._connector: _Connector | None = None
        self._auth: sushy.auth.AuthBase | None = None
        self._root: _Root | None = None
        self._system_path = ""
        self._power_path: str | None = None

    def system(self) -> dict[str, Any]:
        """The ComputerSystem as the BMC describes it now."""
        if self._root is None:
            self._login()
        return self.get(self._system_path)

    def get(self, path: str) -> dict[str, Any]:
        """A resource as JSON. Raises ValueError when it is not a JSON object."""
        body = self._connected().get(path).json()
        if not isinstance(body, dict):
            raise ValueError(f"{path} is not a JSON object")
        return body

    def reset_types(self, system: dict[str, Any]) -> tuple[str, ...]:
        """The ResetTypes the BMC allows, from the action or from its ActionInfo; empty when it does not say."""
        action = _reset_action(system)
        allowed = action.get("ResetType@Redfish.AllowableValues")
        if not allowed and (info := action.get("@Redfish.ActionInfo")):
            allowed = next(
                (
                    parameter.get("AllowableValues")
                    for parameter in self.get(info).get("Parameters", [])
                    if parameter.get("Name") == "ResetType"
                ),
                None,
            )
        return tuple(str(word) for word in allowed or ())

    def reset(self, system: dict[str, Any], reset_type: str) -> None:
        """Post one Reset action, once."""
        self._connected().post(_reset_action(system)["target"], data={"ResetType": reset_type})

    def watts(self) -> float | None:
        """The system's draw from the first of Power, EnvironmentMetrics and Sensors that has it."""
        system = self.system()
        for chassis in system.get("Links", {}).get("Chassis", []):
            reading = self._chassis_watts(self.get(chassis["@odata.id"]))
            if reading is not None:
                return reading
        return None

    def firmware(self, system: dict[str, Any]) -> str:
        """The BMC's model and firmware version, as far as it says."""
        managers = system.get("Links", {}).get("ManagedBy") or []
        if not managers:
            return ""
        manager = self.get(managers[0]["@odata.id"])
        return " ".join(str(manager[key]) for key in ("Model", "FirmwareVersion") if manager.get(key))

    def close(self) -> None:
        """Log out. Never raises: an unreachable BMC drops the session by itself."""
        auth, connector = self._auth, self._connector
        self._root = self._auth = self._connector = None
        try:
            if auth is not None:
                auth.close()
            if connector is not None:
                connector.close()
        except (sushy.exceptions.SushyError, requests.RequestException):
            logging.getLogger(__name__).info("could not log out of %s", self._settings.url)

    def _connected(self) -> _Connector:
        if self._connector is None:
            raise ValueError("the session was closed while it was in use")
        return self._connector

    def _login(self) -> None:
        password = self._settings.secret.read()
        root = self._open(sushy.auth.BasicAuth(self._settings.user, password))
        if root.json.get("SessionService") or root.json.get("Links", {}).get("Sessions"):
            root = self._open(sushy.auth.SessionAuth(self._settings.user, password))
        self._system_path = self._choose_system(root)
        self._root = root

    def _open(self, auth: sushy.auth.AuthBase) -> _Root:
        self._auth = auth
        self._connector = _Connector(self._settings, self.context)
        return _Root(self._settings.url, auth=auth, connector=self._connector)

    def _choose_system(self, root: _Root) -> str:
        paths = [str(path) for path in root.get_system_collection().members_identities]
        wanted = self._settings.system
        if wanted is None and len(paths) == 1:
            return paths[0]
        for path in paths:
            if wanted is not None and wanted.rstrip("/") in (path.rstrip("/"), path.rstrip("/").split("/")[-1]):
                return path
        names = ", ".join(path.rstrip("/").split("/")[-1] for path in paths) or "none"
        raise SystemChoiceError(names)

    def _chassis_watts(self, chassis: dict[str, Any]) -> float | None:
        for key, read in (
            ("Power", _power_control_watts),
            ("EnvironmentMetrics", _metrics_watts),
            ("Sensors", self._sensor_watts),
        ):
            link = chassis.get(key)
            if link:
                reading = read(self.get(link["@odata.id"]))
                if reading is not None:
                    return reading
        return None

    def _sensor_watts(self, sensors: dict[str, Any]) -> float | None:
        """The reading of the first power sensor whose name says it is the total."""
        for member in sensors.get("Members", []):
            if "power" not in member["@odata.id"].lower():
                continue
            sensor = self.get(member["@odata.id"])
            if sensor.get("ReadingType") == "Power" and "total" in str(sensor.get("Name", "")).lower():
                return _number(sensor.get("Reading"))
        return None


class SystemChoiceError(Exception):
    """The BMC has not exactly one system, or not the one named; the text lists those there are."""


def _reset_action(system: dict[str, Any]) -> dict[str, Any]:
    action = system.get("Actions", {}).get("#ComputerSystem.Reset")
    if not isinstance(action, dict) or not action.get("target"):
        raise ValueError("its system has no Reset action")
    return action


def _power_control_watts(power: dict[str, Any]) -> float | None:
    """The first PowerControl is the whole chassis; those after it are parts of it."""
    for control in power.get("PowerControl", []):
        reading = _number(control.get("PowerConsumedWatts"))
        if reading is not None:
            return reading
    return None


def _metrics_watts(metrics: dict[str, Any]) -> float | None:
    return _number((metrics.get("PowerWatts") or {}).get("Reading"))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
