"""BMCs of test servers: the stand-ins of `tests/power` in a server's BMC namespace, switching the real server.

A BMC is a process. Its faults are set when it starts, so changing them restarts it, as a BMC's own reset does; the
server stays as it is. What it did to its server is in the rack's record of events, under the BMC's kind.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from tests.rack import network
from tests.rack.assembly import Rack, end_session
from tests.rack.disk import CHECKOUT
from tests.rack.server import Server

Kind = Literal["redfish", "ipmi", "ilo"]
_MODULES: dict[Kind, str] = {
    "redfish": "tests.power.redfish_server",
    "ipmi": "tests.power.ipmi_bmc",
    "ilo": "tests.power.ribcl_server",
}
_PORTS: dict[Kind, int] = {"redfish": 443, "ipmi": 623, "ilo": 443}
_RACK_PY = Path(__file__).with_name("rack.py")
IS_ON = Path(__file__).with_name("is_on.sh")


class Bmc:
    """One BMC, running from its making until `stop` or the end of the rack."""

    def __init__(self, rack: Rack, server: str, kind: Kind, user: str = "admin", password: str = "secret") -> None:
        self.rack = rack
        self.server: Server = rack[server]
        self.kind = kind
        self.user = user
        self.password = password
        self.faults: dict[str, Any] = {}
        self._process, self._said = self._start()

    def set_faults(self, **faults: Any) -> None:
        """Restart it with these faults and no others; the names are the fields of `Faults` in the stand-in's module."""
        self.stop()
        self.faults = faults
        self._process, self._said = self._start()

    def set_password(self, password: str) -> None:
        """Restart it with another password, as if the owner had changed it behind the controller's back."""
        self.stop()
        self.password = password
        self._process, self._said = self._start()

    def freeze(self) -> None:
        """Let it hang: it answers nothing, its connections stay open."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Take the BMC away; its address stays and nothing listens there."""
        end_session(self.rack.process_record(self._process.pid))
        self._process.wait(timeout=10)

    def settings(self, password_file: str) -> dict[str, Any]:
        """The driver's block in a node's `power` configuration."""
        common = {"user": self.user, "password_file": password_file}
        if self.kind == "redfish":
            return {"redfish": {"url": self._said["url"], "fingerprint": self._said["fingerprint"], **common}}
        block = {"host": self._said["host"], "port": self._said["port"], **common}
        if self.kind == "ilo":
            block["fingerprint"] = self._said["fingerprint"]
        return {self.kind: block}

    def install_password(self, host: Server, owner: str | None = None) -> str:
        """Put the password into a file on a controller host, readable to one account; returns the file's path."""
        path = f"/etc/racksack/{self.server.name}-{self.kind}.pw"
        host.install(path, self.password + "\n", mode=0o600, owner=owner or host.spec.users[0])
        return path

    def _start(self) -> tuple[subprocess.Popen[Any], dict[str, Any]]:
        namespace = network.path(self.server.bmc_namespace)
        argv = ["nsenter", f"--net={namespace}", "--", sys.executable, "-m", _MODULES[self.kind]]
        argv += ["--listen", self.server.bmc_address, "--port", str(_PORTS[self.kind])]
        argv += ["--user", self.user, "--password", self.password]
        for option, verb in (("--on", "on"), ("--off", "off"), ("--soft-off", "soft")):
            switch = [sys.executable, str(_RACK_PY), verb, self.server.name, "--rack", str(self.rack.number)]
            argv += [option, shlex.join([*switch, "--reason", self.kind])]
        argv += ["--status", shlex.join([str(IS_ON), str(self.server.directory / "pid1.json")])]
        if self.kind != "ipmi":
            argv += ["--certificate", str(self.rack.directory / f"{self.server.name}-{self.kind}")]
        for name, value in self.faults.items():
            argv += ["--fault", f"{name}={','.join(value) if isinstance(value, tuple) else value}"]
        process, line = self.rack.start_and_wait(argv, f"{self.kind}-{self.server.name}", cwd=CHECKOUT)
        return process, json.loads(line)


def wake_settings(server: Server, **more: Any) -> dict[str, Any]:
    """The block of the wake-on-LAN driver for a server."""
    return {"wol": {"mac": server.mac, "broadcast": server.broadcast, **more}}


def outlet_settings(rack: Rack, server: str) -> dict[str, Any]:
    """The block of the command driver for a server, whose power outlet is set up with it."""
    outlet = rack.start_outlet(server)
    return {"command": {verb: [*outlet, verb] for verb in ("on", "off", "status")}}
