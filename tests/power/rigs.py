"""One rig for each driver: the driver, the machine it switches, and ways to make its device misbehave."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from racksack_controller import programs
from racksack_controller.power.command import CommandDriver
from racksack_controller.power.driver import PowerDriver
from racksack_controller.power.ilo import IloDriver
from racksack_controller.power.ipmi import IpmiDriver
from racksack_controller.power.ipmi_helper import IpmiHelper
from racksack_controller.power.redfish import RedfishDriver
from racksack_controller.power.secret import Secret
from racksack_controller.power.settings import (
    CommandSettings,
    IloSettings,
    IpmiSettings,
    RedfishSettings,
    SshSettings,
    WolSettings,
)
from racksack_controller.power.ssh import SshDriver
from racksack_controller.power.tls import Trust
from racksack_controller.power.wol import WolDriver
from tests.power.ipmi_bmc import IpmiBmc, free_port
from tests.power.machine import FileMachine
from tests.power.magic_listener import MagicListener
from tests.power.redfish_server import RedfishServer
from tests.power.ribcl_server import Faults as RibclFaults
from tests.power.ribcl_server import RibclServer

PASSWORD = "correct horse & <battery>"
MAC = "52:54:00:77:00:01"


@dataclass
class Rig:
    """A driver under test. `make` builds it anew with other settings; what a device cannot do is not in `can`."""

    driver: PowerDriver
    machine: FileMachine
    can: frozenset[str]
    make: Callable[..., PowerDriver]
    freeze: Callable[[], None]
    nowhere: PowerDriver
    watts: float | None = None
    has_login: bool = True
    stops: list[Callable[[], object]] = field(default_factory=list)
    device: object = None


def password_file(directory: Path, password: str = PASSWORD) -> Secret:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "bmc.pw"
    file.write_text(password + "\n")
    file.chmod(0o600)
    return Secret(file=file)


def redfish(directory: Path) -> Rig:
    machine = FileMachine(directory / "machine")
    server = RedfishServer(machine, directory / "tls", password=PASSWORD).start()
    settings = RedfishSettings(
        url=server.url,
        user="admin",
        secret=password_file(directory),
        trust=Trust(fingerprint=server.fingerprint),
        timeout_s=20,
    )

    def make(**changes: object) -> PowerDriver:
        return RedfishDriver(replace(settings, **changes))

    def freeze() -> None:
        server.faults.slow_s = 15

    return Rig(
        driver=make(),
        machine=machine,
        can=frozenset({"status", "on", "soft_off", "hard_off"}),
        make=make,
        freeze=freeze,
        nowhere=make(url="https://127.0.0.1:9"),
        watts=120.0,
        stops=[server.stop],
        device=server,
    )


def ipmi(directory: Path) -> Rig:
    machine = FileMachine(directory / "machine")
    bmc = IpmiBmc(machine.commands, directory / "bmc", password="Ipmi&<20>").start()
    helper = IpmiHelper()
    settings = IpmiSettings(
        host=bmc.host, port=bmc.port, user="admin", secret=password_file(directory, "Ipmi&<20>"), timeout_s=20
    )

    def make(**changes: object) -> PowerDriver:
        return IpmiDriver(replace(settings, **changes), helper)

    return Rig(
        driver=make(),
        machine=machine,
        can=frozenset({"status", "on", "soft_off", "hard_off"}),
        make=make,
        freeze=bmc.freeze,
        nowhere=make(port=free_port("127.0.0.1")),
        stops=[bmc.stop, helper.close],
        device=bmc,
    )


def ilo(directory: Path, generation: int = 4, old_tls: bool = False) -> Rig:
    machine = FileMachine(directory / "machine")
    faults = RibclFaults(generation=generation, old_tls=old_tls)
    server = RibclServer(machine, directory / "tls", password=PASSWORD, faults=faults).start()
    settings = IloSettings(
        host=server.host,
        port=server.port,
        user="admin",
        secret=password_file(directory),
        trust=Trust(fingerprint=server.fingerprint, legacy=True),
        timeout_s=20,
    )

    def make(**changes: object) -> PowerDriver:
        return IloDriver(replace(settings, **changes))

    def freeze() -> None:
        server.faults.slow_s = 15

    return Rig(
        driver=make(),
        machine=machine,
        can=frozenset({"status", "on", "soft_off", "hard_off"}),
        make=make,
        freeze=freeze,
        nowhere=make(port=9),
        watts=140.0,
        stops=[server.stop],
        device=server,
    )


def ilo2(directory: Path) -> Rig:
    """An iLO 2: raw RIBCL, TLS 1.0."""
    return ilo(directory, generation=2, old_tls=True)


def wol(directory: Path) -> Rig:
    machine = FileMachine(directory / "machine")
    listener = MagicListener(machine, MAC).start()
    settings = WolSettings(mac=MAC, broadcast="127.0.0.1", port=listener.port, repeats=3, spacing_s=0.05)

    def make(**changes: object) -> PowerDriver:
        return WolDriver(replace(settings, **changes))

    return Rig(
        driver=make(),
        machine=machine,
        can=frozenset({"on"}),
        make=make,
        freeze=lambda: None,
        nowhere=make(broadcast="127.0.0.1", interface="nosuchdev0"),
        has_login=False,
        stops=[listener.stop],
        device=listener,
    )


def wol_jump(directory: Path) -> Rig:
    """Magic packets from a jump host, which here is a real shell in another process."""
    rig = wol(directory)
    shell = LocalShell(directory / "jump")
    settings = rig.driver._settings

    async def run_on(jump: str, argv: Sequence[str]) -> tuple[int, str, str]:
        if jump != "gateway":
            raise OSError(f"{jump} does not answer")
        return await shell.run(argv)

    def make(**changes: object) -> PowerDriver:
        return WolDriver(
            replace(settings, jump="gateway", **changes) if "jump" not in changes else replace(settings, **changes),
            run_on,
        )

    rig.make, rig.driver, rig.nowhere = make, make(), make(jump="nobody")
    rig.freeze = shell.freeze
    rig.can = frozenset({"on"})
    rig.device = (rig.device, shell)
    return rig


def command(directory: Path) -> Rig:
    machine = FileMachine(directory / "machine")
    frozen = directory / "frozen"
    gate = script(directory / "gate", f'test -e {shlex.quote(str(frozen))} && sleep 60\nexec "$@"\n')
    status = script(
        directory / "status",
        f"if {shlex.join(machine.commands.status)}; then echo running since yesterday; else echo shut off; fi\n",
    )
    settings = CommandSettings(
        on=(gate, *machine.commands.on),
        off=(gate, *machine.commands.off),
        soft_off=(gate, *machine.commands.soft_off),
        status=(gate, status),
        watts=(gate, "echo", "61.5", "W"),
        timeout_s=20,
    )

    def make(**changes: object) -> PowerDriver:
        return CommandDriver(replace(settings, **changes))

    missing = ("/nonexistent/pdu",)
    return Rig(
        driver=make(),
        machine=machine,
        can=frozenset({"status", "on", "soft_off", "hard_off"}),
        make=make,
        freeze=frozen.touch,
        nowhere=make(on=missing, off=missing, soft_off=missing, status=missing),
        watts=61.5,
        has_login=False,
    )


def ssh(directory: Path) -> Rig:
    machine = FileMachine(directory / "machine")
    shell = LocalShell(directory / "node", machine)

    async def unreachable(argv: Sequence[str]) -> tuple[int, str, str]:
        raise OSError("no route to host")

    def make(**changes: object) -> PowerDriver:
        return SshDriver(SshSettings(timeout_s=20), shell.run, "r1")

    return Rig(
        driver=make(),
        machine=machine,
        can=frozenset({"soft_off"}),
        make=make,
        freeze=shell.freeze,
        nowhere=SshDriver(SshSettings(timeout_s=5), unreachable, "r1"),
        has_login=False,
        device=shell,
    )


class LocalShell:
    """A node's shell: real processes, with `systemctl` and its kin replaced by scripts that switch the machine."""

    def __init__(self, directory: Path, machine: FileMachine | None = None) -> None:
        self.directory = directory
        self.calls: list[list[str]] = []
        self._frozen = False
        directory.mkdir(parents=True, exist_ok=True)
        self.place("id", 'echo "${FAKE_UID:-0}"\n')
        self.place("who", "cat who.txt 2>/dev/null; exit 0\n")
        if machine is not None:
            self.place("systemctl", f"exec {shlex.join(machine.commands.soft_off)}\n")

    def place(self, name: str, text: str) -> None:
        script(self.directory / name, text)

    def freeze(self) -> None:
        self._frozen = True

    async def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.calls.append(list(argv))
        if self._frozen:
            await asyncio.sleep(60)
        environment = {**os.environ, "PATH": f"{self.directory}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        ended = await programs.run(argv, environment, cwd=self.directory)
        return ended.exit_code, ended.stdout.decode(), ended.stderr.decode()


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


RIGS = {
    "redfish": redfish,
    "ipmi": ipmi,
    "ilo4": ilo,
    "ilo2": ilo2,
    "wol": wol,
    "wol-jump": wol_jump,
    "command": command,
    "ssh": ssh,
}
