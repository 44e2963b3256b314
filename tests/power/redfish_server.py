"""A Redfish service over TLS on http.server, with the bad manners of real BMCs as knobs (`Faults`).

It knows the service root, sessions and Basic login, a system with its Reset action, a manager, and watts.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.power import machine as machines
from tests.power.certificate import self_signed
from tests.power.machine import Machine

ALL_RESET_TYPES = ("On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "PushPowerButton")
ROOT = "/redfish/v1/"
SYSTEM = "/redfish/v1/Systems/1"
SESSIONS = "/redfish/v1/SessionService/Sessions"


@dataclass
class Faults:
    """Knobs; may be turned while the server runs."""

    lag_s: float = 0.0  # PowerState shows the old state for so long after an action
    transition_s: float = 0.0  # then PoweringOn or PoweringOff for so long
    state_word: str = ""  # PowerState shows this word
    already_400: bool = True  # 400 InvalidOperationForSystemState when already there
    reset_types: tuple[str, ...] = ALL_RESET_TYPES  # empty: AllowableValues are not given
    refused_types: tuple[str, ...] = ()  # allowed on paper, refused with 400
    action_info: bool = False  # AllowableValues stand in an ActionInfo resource
    slow_s: float = 0.0  # each answer takes so long
    slash_redirect: int = 0  # 301 or 308 to the address with a trailing slash
    redirect_to: str = ""  # requests for the system are sent to this other host
    no_sessions: bool = False  # only Basic authentication
    watts: float = 120.0
    watts_off: float = -1.0  # what it shows while the machine is off; below zero: the same
    watts_at: str = "Power"  # Power, EnvironmentMetrics, Sensors or nothing
    watts_gone: str = ""  # this resource about watts is there no more
    drop_answer: bool = False  # does what the action asks, then closes without an answer
    not_json: bool = False
    error_500: int = 0  # so many requests fail with 500
    systems: tuple[str, ...] = ("1",)


@dataclass
class Record:
    """What the BMC saw."""

    requests: list[str] = field(default_factory=list)
    resets: list[str] = field(default_factory=list)
    logins: int = 0
    refused: int = 0
    sessions: dict[str, str] = field(default_factory=dict)


class RedfishServer:
    """The service, in threads of its own, from `start` to `stop`."""

    def __init__(
        self,
        machine: Machine,
        directory: Path,
        listen: str = "127.0.0.1",
        port: int = 0,
        user: str = "admin",
        password: str = "secret",
    ) -> None:
        self.machine = machine
        self.user, self.password = user, password
        self.faults = Faults()
        self.record = Record()
        self.acted_s = -1e9
        self.acted: tuple[str, str] = ("", "")
        certificate = self_signed(directory)
        self.fingerprint = certificate.fingerprint
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        self._http = _Server((listen, port), _Handler)
        self._http.service = self
        # The handshake is made in the connection's thread, so that one that stalls does not stall the others.
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_address[1]
        self.url = f"https://{listen}:{self.port}"

    def start(self) -> RedfishServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def shown_state(self) -> str:
        """PowerState as the BMC shows it."""
        if self.faults.state_word:
            return self.faults.state_word
        since_s = time.monotonic() - self.acted_s
        before, between = self.acted
        if since_s < self.faults.lag_s:
            return before
        if since_s < self.faults.lag_s + self.faults.transition_s:
            return between
        return "On" if self.machine.is_on() else "Off"

    def shown_watts(self) -> float:
        """What the sensor says."""
        faults = self.faults
        return faults.watts if faults.watts_off < 0 or self.machine.is_on() else faults.watts_off

    def reset(self, reset_type: str) -> tuple[int, dict[str, Any]]:
        """Carry out one Reset action."""
        self.record.resets.append(reset_type)
        allowed = self.faults.reset_types or ALL_RESET_TYPES
        if reset_type not in allowed or reset_type in self.faults.refused_types:
            return 400, _error("Base.1.0.ActionParameterNotSupported", [reset_type, "ResetType"])
        is_on = self.machine.is_on()
        if self.faults.already_400 and is_on == (reset_type in ("On", "ForceOn")) and "Push" not in reset_type:
            word = "Power is on" if is_on else "Power is off"
            return 400, _error("iLO.0.10.InvalidOperationForSystemState", [word])
        self.acted_s = time.monotonic()
        self.acted = ("On", "PoweringOff") if is_on else ("Off", "PoweringOn")
        if reset_type in ("On", "ForceOn") or (reset_type == "PushPowerButton" and not is_on):
            self.machine.on()
        elif reset_type == "ForceOff":
            self.machine.off()
        else:
            self.machine.soft_off()
        return 200, {"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.0.Success"}]}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    service: RedfishServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def log_message(self, *words: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._answer("GET", {})

    def do_DELETE(self) -> None:
        self._answer("DELETE", {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer("POST", json.loads(body or b"{}"))

    def _answer(self, method: str, body: dict[str, Any]) -> None:
        service = self.server.service
        faults = service.faults
        service.record.requests.append(f"{method} {self.path}")
        time.sleep(faults.slow_s)
        if faults.redirect_to and self.path.startswith(SYSTEM):
            return self._redirect(308, faults.redirect_to + self.path)
        if faults.slash_redirect and not self.path.endswith("/"):
            return self._redirect(faults.slash_redirect, self.path + "/")
        if faults.error_500 and self.path != ROOT:
            faults.error_500 -= 1
            return self._send(500, _error("Base.1.0.InternalError", []))
        path = self.path.rstrip("/")
        if method == "POST" and path == SESSIONS and not faults.no_sessions:
            return self._log_in(body)
        if path != ROOT.rstrip("/") and not self._known():
            service.record.refused += 1
            return self._send(401, _error("Base.1.0.NoValidSession", []))
        if method == "DELETE":
            service.record.sessions = {token: uri for token, uri in service.record.sessions.items() if uri != path}
            return self._send(200, {})
        if method == "POST" and path.endswith("/Actions/ComputerSystem.Reset"):
            status, reply = service.reset(str(body.get("ResetType")))
            if faults.drop_answer:
                self.close_connection = True
                return None
            return self._send(status, reply)
        if method == "GET" and faults.not_json and path == SYSTEM:
            return self._send_bytes(200, b"<html>Please wait</html>", {})
        is_gone = faults.watts_gone != "" and path.endswith(f"/{faults.watts_gone}")
        resource = _resource(service, path) if method == "GET" and not is_gone else None
        if resource is None:
            return self._send(404, _error("Base.1.0.ResourceMissingAtURI", [self.path]))
        return self._send(200, {"@odata.id": path, **resource})

    def _log_in(self, body: dict[str, Any]) -> None:
        service = self.server.service
        service.record.logins += 1
        if (body.get("UserName"), body.get("Password")) != (service.user, service.password):
            service.record.refused += 1
            return self._send(401, _error("Base.1.0.InvalidCredentials", []))
        token = secrets.token_hex(8)
        uri = f"{SESSIONS}/{len(service.record.requests)}"
        service.record.sessions[token] = uri
        return self._send(201, {"@odata.id": uri}, {"X-Auth-Token": token, "Location": uri})

    def _known(self) -> bool:
        service = self.server.service
        if self.headers.get("X-Auth-Token") in service.record.sessions:
            return True
        words = (self.headers.get("Authorization") or "").split()
        expected = base64.b64encode(f"{service.user}:{service.password}".encode()).decode()
        return len(words) == 2 and words == ["Basic", expected]

    def _redirect(self, status: int, target: str) -> None:
        self._send(status, {}, {"Location": target})

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(body).encode(), headers or {})

    def _send_bytes(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            # sushy asks for it; unless it is told, it may use the connection again just before it ends.
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _resource(service: RedfishServer, path: str) -> dict[str, Any] | None:
    faults = service.faults
    chassis = "/redfish/v1/Chassis/1"
    if path.startswith("/redfish/v1/Systems/"):
        name = path.split("/")[4]
        if path.endswith("/ResetActionInfo"):
            return {
                "Id": "ResetActionInfo",
                "Name": "Reset",
                "Parameters": [{"Name": "ResetType", "AllowableValues": list(faults.reset_types)}],
            }
        return _system(service, name) if name in faults.systems else None
    resources: dict[str, dict[str, Any]] = {
        ROOT.rstrip("/"): {
            "Id": "RootService",
            "Name": "Root",
            "RedfishVersion": "1.6.0",
            "Systems": _link("/redfish/v1/Systems"),
            "Chassis": _link("/redfish/v1/Chassis"),
            "Managers": _link("/redfish/v1/Managers"),
            **(
                {}
                if faults.no_sessions
                else {
                    "SessionService": _link("/redfish/v1/SessionService"),
                    "Links": {"Sessions": _link(SESSIONS)},
                }
            ),
        },
        "/redfish/v1/Systems": _collection(*(f"/redfish/v1/Systems/{name}" for name in faults.systems)),
        "/redfish/v1/Managers/1": {"Id": "1", "Model": "iLO 5", "FirmwareVersion": "2.78"},
        chassis: {"Id": "1", faults.watts_at: _link(f"{chassis}/{faults.watts_at}")},
        f"{chassis}/Power": {
            "PowerControl": [{"PowerConsumedWatts": service.shown_watts()}, {"PowerConsumedWatts": 7}]
        },
        f"{chassis}/EnvironmentMetrics": {"PowerWatts": {"Reading": service.shown_watts()}},
        f"{chassis}/Sensors": _collection(f"{chassis}/Sensors/fan0", f"{chassis}/Sensors/power_total"),
        f"{chassis}/Sensors/fan0": {"Name": "Fan 0 total", "ReadingType": "Rotational", "Reading": 4000},
        f"{chassis}/Sensors/power_total": {
            "Name": "Total Power",
            "ReadingType": "Power",
            "Reading": service.shown_watts(),
        },
    }
    return resources.get(path)


def _system(service: RedfishServer, name: str) -> dict[str, Any]:
    faults = service.faults
    path = f"/redfish/v1/Systems/{name}"
    action: dict[str, Any] = {"target": f"{path}/Actions/ComputerSystem.Reset"}
    if faults.action_info:
        action["@Redfish.ActionInfo"] = f"{path}/ResetActionInfo"
    elif faults.reset_types:
        action["ResetType@Redfish.AllowableValues"] = list(faults.reset_types)
    return {
        "Id": name,
        "Name": "System",
        "Manufacturer": "HPE",
        "Model": "ProLiant DL380 Gen10",
        "PowerState": service.shown_state(),
        "Actions": {"#ComputerSystem.Reset": action},
        "Links": {"Chassis": [_link("/redfish/v1/Chassis/1")], "ManagedBy": [_link("/redfish/v1/Managers/1")]},
    }


def _link(path: str) -> dict[str, str]:
    return {"@odata.id": path}


def _collection(*paths: str) -> dict[str, Any]:
    return {"Name": "Collection", "Members": [_link(path) for path in paths], "Members@odata.count": len(paths)}


def _error(message_id: str, arguments: list[str]) -> dict[str, Any]:
    info = {"MessageId": message_id, "MessageArgs": arguments}
    return {"error": {"code": "iLO.0.10.ExtendedInfo", "@Message.ExtendedInfo": [info]}}


def main() -> None:
    """Serve until ended; the first line says where, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    machines.add_arguments(parser, port=443)
    parser.add_argument("--certificate", type=Path, help="folder of the certificate; made when empty")
    arguments = parser.parse_args()
    directory = arguments.certificate or Path(tempfile.mkdtemp(prefix="redfish-"))
    server = RedfishServer(
        machines.machine_of(arguments),
        directory,
        arguments.listen,
        arguments.port,
        arguments.user,
        arguments.password,
    )
    machines.set_faults(server.faults, arguments.fault)
    server.start()
    print(json.dumps({"url": server.url, "fingerprint": server.fingerprint}), flush=True)
    machines.wait_for_end()


if __name__ == "__main__":
    main()
