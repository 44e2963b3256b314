"""An iLO 2, 3 or 4 that speaks RIBCL over TLS: raw for an iLO 2, in HTTP from iLO 3 on, as python-hpilo expects.

Not an XML parser: an iLO does not unescape the password either, so the request is read as text.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import socketserver
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.power import machine as machines
from tests.power.certificate import self_signed
from tests.power.machine import Machine

OK = (0, "No error")


@dataclass
class Faults:
    """Knobs; `generation` and `old_tls` count from the start, the others may be turned while the server runs."""

    generation: int = 4
    old_tls: bool = False  # TLS 1.0 only
    lag_s: float = 0.0  # the state shows late
    slow_s: float = 0.0
    watts: float = 140.0  # zero: this model has no sensor
    watts_off: float = -1.0  # what it shows while the machine is off; below zero: the same
    no_power_right: bool = False
    garbage: bool = False
    echo_login: bool = False  # a syntax error that repeats the request


@dataclass
class Record:
    """What the iLO saw."""

    commands: list[str] = field(default_factory=list)
    refused: int = 0


class RibclServer:
    """The iLO, in threads of its own, from `start` to `stop`."""

    def __init__(
        self,
        machine: Machine,
        directory: Path,
        listen: str = "127.0.0.1",
        port: int = 0,
        user: str = "admin",
        password: str = "secret",
        faults: Faults | None = None,
    ) -> None:
        self.machine = machine
        self.user, self.password = user, password
        self.faults = faults or Faults()
        self.record = Record()
        self._acted: tuple[float, bool] = (-1e9, False)
        certificate = self_signed(directory)
        self.fingerprint = certificate.fingerprint
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.faults.old_tls:
            self.context.set_ciphers("ALL:@SECLEVEL=0")
            self.context.minimum_version = self.context.maximum_version = ssl.TLSVersion.TLSv1
        self.context.load_cert_chain(certificate.chain, certificate.key)
        self._tcp = _Server((listen, port), _Handler)
        self._tcp.ilo = self
        self.host, self.port = listen, self._tcp.server_address[1]

    def start(self) -> RibclServer:
        threading.Thread(target=self._tcp.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._tcp.shutdown()
        self._tcp.server_close()

    def shown_on(self) -> bool:
        acted_s, before = self._acted
        return before if time.monotonic() - acted_s < self.faults.lag_s else self.machine.is_on()

    def answer(self, request: str) -> list[tuple[tuple[int, str], str]]:
        """The messages for one request: a response each, with its payload."""
        login = re.search(r'USER_LOGIN="([^"]*)"', request), re.search(r'PASSWORD="([^"]*)"', request)
        if not all(login):
            return [((1, "Syntax error: Line #0: syntax error near &quot;&gt;&quot;"), "")]
        if self.faults.echo_login:
            return [((1, f"Syntax error: Line #3: syntax error near {login[1].group(1)}"), "")]
        if (login[0].group(1), login[1].group(1)) != (self.user, self.password):
            self.record.refused += 1
            return [((0x5F, "Login failed."), "")]
        command = re.search(r"<(?:SERVER|RIB)_INFO[^>]*>\s*<(\w+)([^>]*)>", request)
        if command is None:
            return [(OK, "")]
        self.record.commands.append(command.group(1))
        return [(OK, ""), (OK, ""), self._perform(command.group(1), command.group(2)), (OK, "")]

    def _perform(self, command: str, attributes: str) -> tuple[tuple[int, str], str]:
        is_on = self.machine.is_on()
        switching = command in ("SET_HOST_POWER", "PRESS_PWR_BTN", "HOLD_PWR_BTN")
        if switching and self.faults.no_power_right:
            return (0x23, "User does NOT have correct privilege for action. RESET_SERVER_PRIV required."), ""
        if switching:
            self._acted = (time.monotonic(), is_on)
        if command == "SET_HOST_POWER" and ('"Yes"' in attributes) == is_on:
            return (0, f"Host power is already {'ON' if is_on else 'OFF'}."), ""
        if command == "SET_HOST_POWER":
            self.machine.off() if is_on else self.machine.on()
        elif command == "PRESS_PWR_BTN":
            self.machine.soft_off() if is_on else self.machine.on()
        elif command == "HOLD_PWR_BTN":
            self.machine.off() if is_on else self.machine.on()
        else:
            return self._read(command)
        return OK, ""

    def _read(self, command: str) -> tuple[tuple[int, str], str]:
        generation, watts = self.faults.generation, self.faults.watts
        if self.faults.watts_off >= 0 and not self.machine.is_on():
            watts = self.faults.watts_off
        payloads = {
            "GET_HOST_POWER_STATUS": f'<GET_HOST_POWER HOST_POWER="{"ON" if self.shown_on() else "OFF"}"/>',
            "GET_PRODUCT_NAME": '<GET_PRODUCT_NAME><PRODUCT_NAME VALUE="ProLiant DL360 G7"/></GET_PRODUCT_NAME>',
            "GET_FW_VERSION": (
                f'<GET_FW_VERSION FIRMWARE_VERSION="1.94" FIRMWARE_DATE="Dec 07 2020" '
                f'MANAGEMENT_PROCESSOR="iLO{generation}" LICENSE_TYPE="iLO Advanced"/>'
            ),
            "GET_POWER_READINGS": (
                f'<GET_POWER_READINGS><PRESENT_POWER_READING VALUE="{watts:.0f}" UNIT="Watts"/>'
                f'<AVERAGE_POWER_READING VALUE="{watts:.0f}" UNIT="Watts"/></GET_POWER_READINGS>'
            ),
        }
        if command not in payloads or (command == "GET_POWER_READINGS" and not watts):
            return (1, f"Syntax error: Line #3: syntax error near &quot;{command}&quot;"), ""
        return OK, payloads[command]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    ilo: RibclServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        ilo = self.server.ilo
        self.request.settimeout(30)
        with ilo.context.wrap_socket(self.request, server_side=True) as connection:
            request = _receive(connection)
            time.sleep(ilo.faults.slow_s)
            connection.sendall(_reply(ilo, request).encode())
            connection.unwrap()


def _receive(connection: socket.socket) -> str:
    text = ""
    while "</RIBCL>" not in text:
        chunk = connection.recv(8192)
        if not chunk:
            break
        text += chunk.decode()
    return text


def _reply(ilo: RibclServer, request: str) -> str:
    in_http = request.startswith("POST /ribcl ")
    if ilo.faults.garbage:
        return "SSH-2.0-mpSSH_0.2.1\r\n"
    if in_http and ilo.faults.generation < 3:
        return "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"
    body = "".join(_message(*message) for message in ilo.answer(request))
    if not in_http:
        return body
    chunk = f"{len(body):X}\r\n{body}\r\n0\r\n\r\n"
    return (
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunk
    )


def _message(response: tuple[int, str], payload: str) -> str:
    status, words = response
    return (
        f'<?xml version="1.0"?>\r\n<RIBCL VERSION="2.23">\r\n'
        f"<RESPONSE\r\n    STATUS=\"0x{status:04X}\"\r\n    MESSAGE='{words}'\r\n     />\r\n{payload}\r\n</RIBCL>\r\n"
    )


def main() -> None:
    """Serve until ended; the first line says where, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    machines.add_arguments(parser, port=443)
    parser.add_argument("--certificate", type=Path, help="folder of the certificate; made when empty")
    arguments = parser.parse_args()
    faults = Faults()
    machines.set_faults(faults, arguments.fault)
    directory = arguments.certificate or Path(tempfile.mkdtemp(prefix="ribcl-"))
    server = RibclServer(
        machines.machine_of(arguments),
        directory,
        arguments.listen,
        arguments.port,
        arguments.user,
        arguments.password,
        faults,
    )
    server.start()
    print(json.dumps({"host": server.host, "port": server.port, "fingerprint": server.fingerprint}), flush=True)
    machines.wait_for_end()


if __name__ == "__main__":
    main()
