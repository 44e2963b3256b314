"""One login at a Redfish service, on sushy. Blocking: `redfish.py` calls it from a worker thread.

What sushy leaves to us, because BMCs need it:

- a request that changes something is sent once (sushy repeats any request after a broken connection, and a power button
  pushed twice is not a power button pushed once);
- a redirect (iLO sends them for a missing trailing slash) keeps method and body, and never leads to another host, which
  would hand it our session token;
- the environment's proxies and ~/.netrc are not for BMCs;
- a wrong password is tried once, to spare the account from being locked: sushy would try it again as Basic
  authentication. That is used only where the service root, which needs no login, offers no sessions.

An old BMC may take half a minute for each answer, so what does not change is read once: the system's path, the types of
reset that it allows, and where its watts stand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple
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
        raise sushy.exceptions.ConnectionError(url=path, error="it redirects endlessly")


def _same_host(response: requests.Response) -> str:
    """Where a redirect leads. Raises sushy's ConnectionError when that is another host."""
    target = urljoin(response.url, response.headers.get("Location", ""))
    here, there = urlsplit(response.url), urlsplit(target)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise sushy.exceptions.ConnectionError(
            url=response.url, error=f"it redirects to another host, {there.scheme}://{there.netloc}"
        )
    return target


class _Login(sushy.auth.SessionAuth):  # type: ignore[misc] # sushy has no types
    """A session where the service root offers them, else Basic authentication."""

    def _do_authenticate(self) -> None:
        root = self._root_resource.json
        if root.get("SessionService") or root.get("Links", {}).get("Sessions"):
            super()._do_authenticate()
        else:
            self._connector.set_http_basic_auth(self._username, self._password)


class _Root(sushy.Sushy):  # type: ignore[misc] # sushy has no types
    def __del__(self) -> None:
        """Nothing: sushy would log out here, over the network, in whatever thread the garbage collector runs."""


class ResetAction(NamedTuple):
    """Where a system's Reset action is posted, and the types it allows; none: it does not say."""

    target: str
    types: tuple[str, ...]


class _Sensor(NamedTuple):
    """A resource that tells the watts, and how they are read from it."""

    path: str
    read: Callable[[dict[str, Any]], float | None]


class RedfishSession:
    """A login and the one system behind it. Methods raise sushy's and requests' exceptions, and SecretError."""

    def __init__(self, settings: RedfishSettings) -> None:
        self._settings = settings
        self.context = make_context(settings.trust)
        self._connector: _Connector | None = None
        self._auth: _Login | None = None
        self._root: _Root | None = None
        self._system_path = ""
        self._described: dict[str, Any] | None = None  # the system as it was read last
        self._info: tuple[str, tuple[str, ...]] | None = None  # an ActionInfo, and the types that it allows
        self._sensor: _Sensor | None = None

    def system(self) -> dict[str, Any]:
        """The ComputerSystem as the BMC describes it now."""
        if self._root is None:
            self._login()
        self._described = self.get(self._system_path)
        return self._described

    def get(self, path: str) -> dict[str, Any]:
        """A resource as JSON. Raises ValueError when it is not a JSON object."""
        body = self._connected().get(path).json()
        if not isinstance(body, dict):
            raise ValueError(f"{path} is not a JSON object")
        return body

    def action(self, *, anew: bool = False) -> ResetAction:
        """The system's Reset action, as the system was described last unless it is to be read `anew`."""
        if anew:
            self._described = self._info = None
        action = _reset_action(self._described or self.system())
        allowed = action.get("ResetType@Redfish.AllowableValues")
        if not allowed and (info := action.get("@Redfish.ActionInfo")):
            allowed = self._allowed_by(str(info))
        return ResetAction(str(action["target"]), tuple(str(word) for word in allowed or ()))

    def _allowed_by(self, info: str) -> tuple[str, ...]:
        if self._info is None or self._info[0] != info:
            parameters = [one for one in self.get(info).get("Parameters", []) if one.get("Name") == "ResetType"]
            self._info = info, tuple(parameters[0].get("AllowableValues") or ()) if parameters else ()
        return self._info[1]

    def reset(self, action: ResetAction, reset_type: str) -> None:
        """Post one Reset action, once."""
        self._connected().post(action.target, data={"ResetType": reset_type})

    def watts(self) -> float | None:
        """The system's draw from the first of Power, EnvironmentMetrics and Sensors that has it."""
        if self._sensor is not None and (reading := self._known_watts(self._sensor)) is not None:
            return reading
        self._sensor = None
        for chassis in self.system().get("Links", {}).get("Chassis", []):
            reading = self._chassis_watts(self.get(chassis["@odata.id"]))
            if reading is not None:
                return reading
        return None

    def _known_watts(self, sensor: _Sensor) -> float | None:
        """What the resource says that had them last time; None when it does not any more."""
        try:
            return sensor.read(self.get(sensor.path))
        except sushy.exceptions.ResourceNotFoundError:
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
        self._auth = _Login(self._settings.user, self._settings.secret.read())
        self._connector = _Connector(self._settings, self.context)
        root = _Root(self._settings.url, auth=self._auth, connector=self._connector)
        self._system_path = self._choose_system(root)
        self._root = root

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
            if link and (reading := self._read(_Sensor(str(link["@odata.id"]), read))) is not None:
                return reading
        return None

    def _read(self, sensor: _Sensor) -> float | None:
        """What a resource says about watts; the first that says anything is remembered."""
        reading = sensor.read(self.get(sensor.path))
        if reading is not None and self._sensor is None:
            self._sensor = sensor
        return reading

    def _sensor_watts(self, sensors: dict[str, Any]) -> float | None:
        """The reading of the first power sensor whose name says it is the total."""
        for member in sensors.get("Members", []):
            if "power" not in member["@odata.id"].lower():
                continue
            reading = self._read(_Sensor(str(member["@odata.id"]), _total_watts))
            if reading is not None:
                return reading
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


def _total_watts(sensor: dict[str, Any]) -> float | None:
    if sensor.get("ReadingType") != "Power" or "total" not in str(sensor.get("Name", "")).lower():
        return None
    return _number(sensor.get("Reading"))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
