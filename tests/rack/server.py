"""One test server from the outside: its switch, its cables, its faults, and a way to run commands on it.

Anyone who can name a server may switch it (a test, a BMC, a magic packet), from any process: the truth is the recorded
PID 1 and nothing in memory. Every change of power is in the rack's record of events.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.rack import disk, layout, network, state
from tests.rack.init import Boot, cgroup_hierarchies
from tests.rack.layout import RackSpec, ServerSpec
from tests.rack.state import ProcessId

_INIT = Path(__file__).with_name("init.py")
_SYSTEM_PYTHON = Path("/usr/bin/python3")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SWITCH_LOCK = "switch.lock"
"""Held in a server's directory by whoever switches it."""
CLOSING = "closing"
"""A file in the rack's directory: the rack is being taken apart, nothing may be switched on any more."""
_launchers: list[subprocess.Popen[str]] = []
"""Started by this process and not yet reaped by it."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with a server. Read at the moment it matters, so it can change at any time."""

    no_ssh: bool = False
    """It boots, and sshd does not come up."""
    dead: bool = False
    """It does not come on, whoever asks."""
    magic_packets_ignored: int = 0
    """How many of the next magic packets are lost on it."""
    boot_delay_s: float | None = None
    """Instead of the delay in its description."""
    partitioned: bool = False
    """Its packets go nowhere; the link looks healthy. Outlives power cycles."""
    bmc_partitioned: bool = False
    """The same for its BMC."""


class Server:
    """A server of a rack. Cheap to make; holds nothing open."""

    def __init__(self, rack: Path, number: int, spec: RackSpec, name: str, disks: Path) -> None:
        self.rack = rack
        self.number = number
        self.rack_spec = spec
        self.spec: ServerSpec = spec.servers[spec.index(name)]
        self.name = name
        self.disk = disks / name
        self.directory = rack / name

    @property
    def address(self) -> str:
        """Its address in its main subnet."""
        return layout.address(self.number, self.rack_spec, self.name)

    @property
    def bmc_address(self) -> str:
        """Its BMC's address on the management subnet."""
        return layout.bmc_address(self.number, self.rack_spec, self.name)

    @property
    def mac(self) -> str:
        """The MAC that a magic packet must name to wake it."""
        return layout.mac(self.number, self.rack_spec, self.name)

    @property
    def broadcast(self) -> str:
        """Where such a packet has to be sent: the broadcast address of its main subnet."""
        return layout.broadcast(self.number, self.spec.subnets[0])

    @property
    def bmc_namespace(self) -> str:
        """The network namespace of its BMC, which stays while the server is off."""
        return network.bmc_namespace(self.number, self.name)

    @property
    def host_key(self) -> str:
        """Its public host key: type and base64."""
        return (self.disk / "upper/etc/ssh/rack_host_key.pub").read_text().strip()

    def home(self, user: str | None = None) -> Path:
        """A user's home as a path of the machine, readable whether the server is on or off."""
        return self.disk / "home" / (user or self.spec.users[0])

    def uid(self, user: str | None = None) -> int:
        """The number of an account of this server, and of its group."""
        return layout.uid(self.number, self.rack_spec, self.name, user or self.spec.users[0])

    # Power.

    def build(self) -> None:
        """Put a new server into the rack: disk filled, power off."""
        self.directory.mkdir()
        disk.prepare(self.disk, self.rack, self.number, self.rack_spec, self.spec)

    @property
    def pid1(self) -> ProcessId | None:
        """Its PID 1 as a process of the machine; None while it is off."""
        return state.read_process(self.directory / "pid1.json")

    @property
    def running(self) -> bool:
        """Whether it has power: what its BMC reports."""
        return self.pid1 is not None

    def power_on(self, reason: str = "") -> bool:
        """Switch it on and return at once; False if it was on already (or is dead). See `wait_up`."""
        with self._switch():
            if self.running or self.faults.dead or (self.rack / CLOSING).exists():
                return False
            self._sweep()
            boot = self._boot()
            state.write_json(self.directory / "boot.json", asdict(boot))
            state.append_event(self.rack, self.name, "power-on", reason)
            self._launch()
            return True

    def power_cut(self, reason: str = "") -> bool:
        """Take its power away: its cables go silent, then everything on it dies at once. False if it was off."""
        with self._switch():
            pid1 = self.pid1
            if pid1 is None:
                return False
            network.set_cable(self.number, self.name, self.spec.subnets, plugged=False)
            state.kill(pid1)
            state.append_event(self.rack, self.name, "power-cut", reason)
            self._sweep()
            return True

    def press_power_button(self, reason: str = "") -> bool:
        """Ask it to go down by itself, as a BMC's graceful shutdown does; False if it was off."""
        pid1 = self.pid1
        if pid1 is None:
            return False
        state.append_event(self.rack, self.name, "power-button", reason)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid1.pid, signal.SIGUSR2)
        return True

    def wait_off(self, timeout_s: float = 30.0) -> None:
        """Wait until it has gone down by itself; TimeoutError after `timeout_s`."""
        pid1 = self.pid1
        if pid1 is not None and not state.wait_gone(pid1, timeout_s):
            raise TimeoutError(f"{self.name} is still on after {timeout_s} s; its processes:\n{self._processes()}")
        with self._switch():
            if not self.running:
                self._sweep()

    def wait_up(self, timeout_s: float = 30.0) -> None:
        """Wait until its sshd listens; TimeoutError after `timeout_s`, RuntimeError if it goes off meanwhile."""
        deadline = time.monotonic() + timeout_s
        seen_on = False
        while True:
            pid1 = self.pid1
            if pid1 is None and seen_on:
                raise RuntimeError(f"{self.name} went off; its console said:\n{self.console()}")
            seen_on = pid1 is not None
            if pid1 and _listens(pid1, 22):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has no sshd after {timeout_s} s; console:\n{self.console()}")
            time.sleep(0.01)

    def console(self) -> str:
        """What PID 1 and sshd have written since the server was built."""
        path = self.directory / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @contextlib.contextmanager
    def _switch(self) -> Iterator[None]:
        with state.locked(self.directory / SWITCH_LOCK):
            yield

    def _boot(self) -> Boot:
        faults = self.faults
        legs = [
            {
                "port": network.port(self.name, subnet),
                "bridge": network.bridge(subnet),
                "interface": f"eth{index}",
                "address": layout.address(self.number, self.rack_spec, self.name, subnet),
                "mac": layout.mac(self.number, self.rack_spec, self.name, subnet),
                "plugged": "no" if faults.partitioned else "yes",
            }
            for index, subnet in enumerate(self.spec.subnets)
        ]
        delay_s = self.spec.boot_delay_s if faults.boot_delay_s is None else faults.boot_delay_s
        return Boot(
            name=self.name,
            disk=str(self.disk),
            rack=str(self.rack),
            bridge_namespace=network.bridge_namespace(self.number),
            legs=legs,
            binds=disk.outside_binds(self.spec),
            cgroup=self._cgroup if self.spec.cgroups else "",
            boot_delay_s=delay_s,
            stop_timeout_s=self.spec.stop_timeout_s,
            sshd=not faults.no_ssh,
        )

    def _launch(self) -> None:
        """Start PID 1 in its namespaces and record it. It goes no further before it has been recorded."""
        with (self.directory / "console.log").open("a") as console:
            launcher = subprocess.Popen(
                self._launch_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                text=True,
                start_new_session=True,
                cwd="/",
            )
        _launchers[:] = [*(one for one in _launchers if one.poll() is None), launcher]
        assert launcher.stdin and launcher.stdout  # noqa: PT018 -- both are pipes
        with launcher.stdin, launcher.stdout:
            host_pid = launcher.stdout.readline()
            if not host_pid:
                launcher.wait(timeout=10)
                raise RuntimeError(f"{self.name} does not start; its console said:\n{self.console()}")
            state.record_process(self.directory / "pid1.json", ProcessId.of(int(host_pid)))
            launcher.stdin.write("go\n")

    def _launch_command(self) -> list[str]:
        python = _SYSTEM_PYTHON if _SYSTEM_PYTHON.exists() else Path(sys.executable)
        # Its clocks begin at zero: as much is taken off as this machine has been up.
        up_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        monotonic_s = int(time.monotonic())
        command = ["unshare", "--net", "--pid", "--mount", "--uts", "--ipc", "--time", "--fork", "--kill-child"]
        command += ["--boottime", str(-up_s), "--monotonic", str(-monotonic_s), "--propagation", "private"]
        return [*command, "--", str(python), "-I", "-S", str(_INIT), str(self.directory / "boot.json")]

    def _sweep(self) -> None:
        """Clear away what an ended boot has left outside of it."""
        (self.directory / "pid1.json").unlink(missing_ok=True)
        ports = [f"link del {network.port(self.name, subnet)}" for subnet in self.spec.subnets]
        network.run_ip(network.bridge_namespace(self.number), ports, ignore_errors=True)
        for launcher in _launchers:
            launcher.poll()
        for _, mounted in cgroup_hierarchies() if self.spec.cgroups else ():
            remove_cgroups(mounted / self._cgroup)

    @property
    def _cgroup(self) -> str:
        return f"{cgroup_of_rack(self.number)}/{self.name}"

    def _processes(self) -> str:
        return self.exec(["ps", "-eo", "pid,ppid,stat,args"], user="root", check=False, timeout_s=10).stdout

    def processes(self) -> list[ProcessId]:
        """Every process that runs on it, as the machine knows them; none if it is off."""
        pid1 = self.pid1
        if pid1 is None:
            return []
        found = []
        namespace = Path(f"/proc/{pid1.pid}/ns/pid").readlink()
        for entry in Path("/proc").glob("[0-9]*"):
            # Kernel threads and processes that end meanwhile have no namespace to show.
            with contextlib.suppress(OSError):
                if (entry / "ns/pid").readlink() == namespace:
                    found.append(ProcessId.of(int(entry.name)))
        return found

    # Commands.

    def popen(
        self,
        argv: Sequence[str],
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command on the server as one of its users (the first by default), in their home.

        Signals sent through the result reach the command itself.
        """
        account = user or self.spec.users[0]
        home = "/root" if account == "root" else f"/home/{account}"
        variables = {"PATH": _PATH, "HOME": home, "USER": account, "LOGNAME": account, "SHELL": "/bin/bash"}
        variables |= {"LANG": "C.UTF-8", **(env or {})}
        command = [
            *self._enter(),
            "setpriv",
            "--pdeathsig=KILL",
            f"--reuid={account}",
            f"--regid={account}",
            "--init-groups",
            "--",
        ]
        command += ["env", "-i", f"--chdir={cwd or home}", *(f"{key}={value}" for key, value in variables.items())]
        return CommandOnServer([*command, *argv], **options)

    def exec(
        self,
        argv: Sequence[str],
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str = "",
        check: bool = True,
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the server to its end and take its output as text.

        Raises CalledProcessError for an exit code other than 0 unless `check` is false, TimeoutExpired, and
        RuntimeError if the server is off.
        """
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.popen(argv, user, env, cwd, text=True, **pipes) as process:
            try:
                out, err = process.communicate(stdin, timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode != 0:
            raise CommandFailed(self.name, done)
        return done

    def _enter(self) -> list[str]:
        pid1 = self.pid1
        if pid1 is None:
            raise RuntimeError(f"{self.name} is off")
        kinds = ["--mount", "--uts", "--ipc", "--net", "--pid", "--time"]
        return ["nsenter", "--target", str(pid1.pid), *kinds, *(["--cgroup"] if self.spec.cgroups else []), "--"]

    def install(self, path: str, text: str, mode: int = 0o755, owner: str = "root") -> None:
        """Put a file on the server's disk, whether it is on or off."""
        if self.running:
            # An overlay in use must not be written to behind its back.
            script = 'mkdir -p "${1%/*}" && cat > "$1" && chmod "$2" "$1" && chown "$3:" "$1"'
            self.exec(["sh", "-c", script, "install", path, f"{mode:o}", owner], user="root", stdin=text)
            return
        target = self.disk / "upper" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        if owner != "root":
            os.chown(target, self.uid(owner), self.uid(owner))

    # Faults.

    @property
    def faults(self) -> Faults:
        """What is wrong with it now."""
        return Faults(**state.read_json(self.directory / "faults.json", {}))

    def set_faults(self, **changes: Any) -> Faults:
        """Change what is wrong with it; fields not named stay as they are."""
        with state.locked(self.directory / "faults.lock"):
            faults = replace(self.faults, **changes)
            state.write_json(self.directory / "faults.json", asdict(faults))
        return faults

    def take_magic_packet(self) -> bool:
        """Whether the magic packet that has just come works; counts down those that do not."""
        with state.locked(self.directory / "faults.lock"):
            faults = self.faults
            if faults.magic_packets_ignored == 0:
                return True
            fewer = replace(faults, magic_packets_ignored=faults.magic_packets_ignored - 1)
            state.write_json(self.directory / "faults.json", asdict(fewer))
        return False

    def partition(self) -> None:
        """Lose all its packets, both ways, without either side being told; lasts over power cycles until `heal`."""
        self.set_faults(partitioned=True)
        network.connect(self.number, self.name, self.spec.subnets, connected=False)

    def partition_bmc(self) -> None:
        """The same for its BMC and its wake-on-LAN ear."""
        self.set_faults(bmc_partitioned=True)
        network.connect_bmc(self.number, self.spec, connected=False)

    def heal(self) -> None:
        """End its partitions."""
        self.set_faults(partitioned=False, bmc_partitioned=False)
        network.connect(self.number, self.name, self.spec.subnets, connected=True)
        if self.spec.bmc:
            network.connect_bmc(self.number, self.spec, connected=True)

    def cable(self, plugged: bool) -> None:
        """Pull its cables or plug them in again: unlike a partition, it sees the carrier go."""
        network.set_cable(self.number, self.name, self.spec.subnets, plugged)

    def drop_incoming(self, dropping: bool) -> None:
        """Lose what is sent to it while what it sends arrives, until told otherwise or powered off."""
        network.drop_towards(self.number, self.name, self.spec.subnets, dropping)


class CommandOnServer(subprocess.Popen[Any]):
    """A command on a server. What the machine sees is nsenter, which waits for it and ends as it ended."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command, which is nsenter's only child, rather than to nsenter."""
        if self.poll() is not None:
            return
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        if children:
            os.kill(int(children[0]), sig)
        else:
            super().send_signal(sig)


class CommandFailed(subprocess.CalledProcessError):
    """A command on a server ended with another exit code than 0; the message shows what it wrote."""

    def __init__(self, server: str, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(done.returncode, done.args, done.stdout, done.stderr)
        self.server = server

    def __str__(self) -> str:
        return f"{super().__str__()} on {self.server}\nstdout: {self.stdout}\nstderr: {self.stderr}"


def cgroup_of_rack(number: int) -> str:
    """The cgroup, in every v1 hierarchy, below which a rack's servers have theirs."""
    return f"racksack-rack-{number}"


def remove_cgroups(group: Path, timeout_s: float = 5.0) -> None:
    """Remove a cgroup with all below it; the kernel may need a moment after the last process has ended."""
    if not group.exists():
        return
    deadline = time.monotonic() + timeout_s
    for directory in [*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group]:
        while True:
            try:
                directory.rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _listens(pid1: ProcessId, port: int) -> bool:
    try:
        lines = Path(f"/proc/{pid1.pid}/net/tcp").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError, OSError):
        return False
    return any(fields[3] == "0A" and int(fields[1].partition(":")[2], 16) == port for fields in map(str.split, lines))
