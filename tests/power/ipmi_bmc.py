"""A BMC with real IPMI: OpenIPMI's `ipmi_sim`, its chassis wired to a machine by a script.

Its knobs are few: `slow_s` delays what touches the chassis; a stopped process (`freeze`) is a BMC that hangs.
It has no DCMI, hence no watts.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.power import machine as machines
from tests.power.machine import Commands

MISSING = None if shutil.which("ipmi_sim") else "ipmi_sim is not installed (Debian: openipmi)"

LAN = """\
name "bmc"
set_working_mc 0x20
  startlan 1
    addr {listen} {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{chassis} 0x20"
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""
EMULATION = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
"""
# ipmi_sim calls: chassis 0x20 get NAME... | chassis 0x20 set NAME VALUE [NAME VALUE]...
CHASSIS = """\
#!/bin/sh
shift
sleep {slow_s}
case $1 in
get) shift; for name; do
  case $name in power) if {status}; then echo power:1; else echo power:0; fi;; *) echo "$name:default";; esac
done;;
set) shift; while [ $# -gt 1 ]; do
  case $1=$2 in power=1) {on};; power=0) {off};; shutdown=*) {soft_off};; esac; shift 2
done;;
esac
exit 0
"""


class IpmiBmc:
    """One `ipmi_sim`, from `start` to `stop`."""

    def __init__(
        self,
        commands: Commands,
        directory: Path,
        listen: str = "127.0.0.1",
        port: int = 0,
        user: str = "admin",
        password: str = "secret",
        slow_s: float = 0.0,
    ) -> None:
        self.host, self.port = listen, port or free_port(listen)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "state").mkdir(parents=True, exist_ok=True)
        chassis = directory / "chassis"
        words = {name: shlex.join(getattr(commands, name)) for name in ("on", "off", "soft_off", "status")}
        # What the commands print must not reach ipmi_sim, which reads this script's output.
        quiet = {name: f"{word} >/dev/null 2>&1" for name, word in words.items()}
        chassis.write_text(CHASSIS.format(slow_s=slow_s, **quiet))
        chassis.chmod(0o755)
        lan = LAN.format(listen=listen, port=self.port, chassis=chassis, user=user, password=password)
        (directory / "lan.conf").write_text(lan)
        (directory / "bmc.emu").write_text(EMULATION)

    def argv(self) -> list[str]:
        words = ["-c", "lan.conf", "-f", "bmc.emu", "-s", "state"]
        return ["ipmi_sim", *(str(self._directory / w) if w[0] != "-" else w for w in words), "-n"]

    def start(self) -> IpmiBmc:
        """Start it and wait until it has taken its port."""
        self._launch()
        deadline = time.monotonic() + 20
        while not _taken(self.host, self.port):
            assert self._process is not None
            said = (self._directory / "log").read_text()
            if self._process.poll() is not None and "Address already in use" in said:
                time.sleep(0.3)  # somebody's client has the port for a moment
                self._launch()
            elif self._process.poll() is not None:
                raise RuntimeError(f"ipmi_sim did not start: {said}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"ipmi_sim did not start in time: {said}")
            time.sleep(0.02)
        return self

    def _launch(self) -> None:
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def free_port(listen: str) -> int:
    """A UDP port that nobody has now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((listen, 0))
        return int(probe.getsockname()[1])


def _taken(listen: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((listen, port))
        except OSError:
            return True
    return False


def _end(*_: object) -> None:
    raise SystemExit(0)


def main() -> None:
    """Run until ended; the first line says where, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    machines.add_arguments(parser, port=623)
    arguments = parser.parse_args()
    slow_s = dict(fault.split("=", 1) for fault in arguments.fault).get("slow_s", "0")
    bmc = IpmiBmc(
        machines.commands_of(arguments),
        Path(tempfile.mkdtemp(prefix="ipmi-")),
        arguments.listen,
        arguments.port,
        arguments.user,
        arguments.password,
        float(slow_s),
    )
    bmc.start()
    try:
        print(json.dumps({"host": bmc.host, "port": bmc.port}), flush=True)
        signal.signal(signal.SIGTERM, _end)
        machines.wait_for_end()
    finally:
        bmc.stop()


if __name__ == "__main__":
    main()
