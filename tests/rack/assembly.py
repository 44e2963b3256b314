"""A whole rack: built from its description, found again by its number, taken apart to the last interface.

A rack belongs to the process that built it, unless it was built to stay (`rack.py up`). Whoever builds a rack first
clears away those whose owners have died, so a crashed test leaves nothing for longer than until the next one. Taking
a rack apart needs only its directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.rack import disk, identities, network, state
from tests.rack.init import cgroup_hierarchies
from tests.rack.layout import RackSpec, ServerSpec
from tests.rack.server import CLOSING, SWITCH_LOCK, Server, cgroup_of_rack, remove_cgroups
from tests.rack.state import PowerEvent, ProcessId

_HERE = Path(__file__).parent
_BUILT_WITHIN_S = 60.0


class Rack:
    """A rack of servers. `with Rack.build(spec) as rack:` takes it apart at the end."""

    def __init__(self, number: int, identity: str, spec: RackSpec, disks: Path) -> None:
        self.number = number
        self.identity = identity
        """Tells this rack from an earlier or later one of the same number."""
        self.spec = spec
        self.disks = disks
        self.directory = state.STATE_ROOT / str(number)
        self.servers = {s.name: Server(self.directory, number, spec, s.name, disks) for s in spec.servers}

    @classmethod
    def build(cls, spec: RackSpec | None = None, stays: bool = False) -> Rack:
        """Build a rack with all servers off. It is taken apart when its owner is found dead, unless it `stays`."""
        remove_dead()
        chosen = spec or RackSpec()
        number = state.claim_number()
        disks = disk.disks_root() / f"racksack-rack-{number}"
        rack = cls(number, uuid.uuid4().hex, chosen, disks)
        owner = None if stays else asdict(ProcessId.of(os.getpid()))
        description: dict[str, Any] = {"identity": rack.identity, "owner": owner, "disks": str(disks)}
        description["servers"] = [asdict(server) for server in chosen.servers]
        state.write_json(rack.directory / "rack.json", description)
        try:
            rack._assemble()
        except BaseException:
            rack.remove()
            raise
        return rack

    @classmethod
    def load(cls, number: int) -> Rack:
        """The rack of a number; LookupError if there is none."""
        description = state.read_json(state.STATE_ROOT / str(number) / "rack.json")
        if description is None:
            raise LookupError(f"there is no rack {number}; there are {state.numbers() or 'none'}")
        servers = tuple(_server_spec(fields) for fields in description["servers"])
        return cls(number, description["identity"], RackSpec(servers), Path(description["disks"]))

    def _assemble(self) -> None:
        (self.directory / "processes").mkdir()
        # A number's earlier rack may have left its disks behind if the machine crashed.
        _remove_disks(self.disks)
        self.disks.mkdir(mode=0o755)
        identities.make_keys(self.directory, self.spec)
        network.build(self.number, self.spec)
        for server in self.servers.values():
            server.build()
        if any(server.spec.bmc for server in self.servers.values()):
            self._start_script("wake.py", str(self.number))

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    def __enter__(self) -> Rack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.remove()

    @property
    def nodes(self) -> list[Server]:
        """Its node servers, in order."""
        return [server for server in self.servers.values() if server.spec.role == "node"]

    def up(self, *names: str, timeout_s: float = 30.0) -> None:
        """Switch servers on (all by default) and wait until one can log in."""
        chosen = [self[name] for name in names] or list(self.servers.values())
        for server in chosen:
            server.power_on("test")
        for server in chosen:
            server.wait_up(timeout_s)

    def events(self, server: str | None = None) -> list[PowerEvent]:
        """What happened to the power of one server or of all, oldest first."""
        return [event for event in state.read_events(self.directory) if server in (None, event.server)]

    def nodes_config(self, origin: str = "controller", identity: str | None = None) -> dict[str, Any]:
        """The `nodes:` part of the configuration of a controller on server `origin`."""
        key = identity or f"/home/{self[origin].spec.users[0]}/.ssh/id_ed25519"
        return identities.nodes_config(self.directory, self.number, self.spec, origin, key)

    def forward(self, server: str, port: int, local_port: int = 0) -> int:
        """Make a port of a server's loopback reachable on the machine's; returns the port there."""
        return int(self._start_script("forward.py", str(self.number), server, str(port), str(local_port)))

    def run_in_bmc(self, server: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process that lives on a server's BMC, whether the server is on or off, until the rack is removed."""
        namespace = network.path(self[server].bmc_namespace)
        return self.start(["nsenter", f"--net={namespace}", "--", *argv], f"bmc-{server}", **options)

    def start(self, argv: Sequence[str], name: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a process that is ended with the rack; what it writes to standard error is kept in `NAME.log`."""
        with (self.directory / f"{name}.log").open("a") as log:
            settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **options}
            process = subprocess.Popen(list(argv), start_new_session=True, **settings)
        with contextlib.suppress(ProcessLookupError):
            recorded = ProcessId.of(process.pid)
            state.record_process(self.process_record(process.pid), recorded)
        return process

    def start_outlet(self, server: str, port: int = 2300) -> list[str]:
        """Plug a server into a power outlet on the management subnet (`pdu.py`).

        Returns the beginning of the command that switches it from any server with a leg there; a verb completes it.
        """
        address = self[server].bmc_address
        serve = [str(_HERE / "pdu.py"), "serve", str(self.number), server, address, str(port)]
        argv = ["nsenter", f"--net={network.path(self[server].bmc_namespace)}", "--", sys.executable, *serve]
        self.start_and_wait(argv, f"pdu-{server}")
        return ["/usr/bin/python3", str(_HERE / "pdu.py"), f"{address}:{port}"]

    def process_record(self, pid: int) -> Path:
        """Where a process that `start` has started is recorded."""
        return self.directory / "processes" / f"{pid}.json"

    def start_and_wait(self, argv: Sequence[str], name: str, **options: Any) -> tuple[subprocess.Popen[Any], str]:
        """Start a process with the rack and wait for the line with which it says that it is ready."""
        process = self.start(argv, name, stdout=subprocess.PIPE, text=True, **options)
        assert process.stdout is not None
        line = str(process.stdout.readline()).strip()
        process.stdout.close()
        if not line:
            log = self.directory / f"{name}.log"
            raise RuntimeError(f"{name} of rack {self.number} did not start; it said:\n{log.read_text()}")
        _helpers.append(process)
        return process, line

    def _start_script(self, script: str, *arguments: str) -> str:
        """Start one of the rack's own helpers and return its first line."""
        return self.start_and_wait([sys.executable, str(_HERE / script), *arguments], Path(script).stem)[1]

    def remove(self) -> None:
        """Take the rack apart. May be repeated, and works on a rack that was built only in part."""
        remove(self.number, self.identity)
        for helper in _helpers:
            helper.poll()


_helpers: list[subprocess.Popen[Any]] = []
"""Started by this process; kept to be reaped by it."""


def _server_spec(fields: dict[str, Any]) -> ServerSpec:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return ServerSpec(**values)


def remove(number: int, identity: str | None = None) -> None:
    """Take apart the rack of a number, unless it has another identity than the one given: then it is a later one.

    The directory goes last, since it is what keeps the number taken.
    """
    directory = state.STATE_ROOT / str(number)
    with state.locked(state.STATE_ROOT / f".removing-{number}"):
        description = state.read_json(directory / "rack.json", {})
        if not directory.exists() or identity not in (None, description.get("identity")):
            return
        _end_processes(number, directory)
        network.remove(number)
        for _, mounted in cgroup_hierarchies():
            remove_cgroups(mounted / cgroup_of_rack(number))
        if description:
            _remove_disks(Path(description["disks"]))
        shutil.rmtree(directory)


def _end_processes(number: int, directory: Path) -> None:
    """End every process of a rack, in an order in which none can start another that nobody knows of."""
    (directory / CLOSING).touch()
    for record in (directory / "processes").glob("*.json"):
        signal_session(record, signal.SIGCONT)
    for lock in directory.glob(f"*/{SWITCH_LOCK}"):
        # Whoever is just switching a server on has then recorded it, and nobody will begin to.
        with state.locked(lock):
            pass
    for record in sorted((directory / "processes").glob("*.json")):
        end_session(record)
    for namespace in network.namespaces(number):
        for pid in network.pids_in(namespace):
            with contextlib.suppress(ProcessLookupError):
                state.kill(ProcessId.of(pid))
    for record in sorted(directory.glob("*/pid1.json")):
        pid1 = state.read_process(record)
        if pid1:
            state.kill(pid1)


def signal_session(record: Path, number: int) -> ProcessId | None:
    """Signal a recorded process and those it started, which share its process group; None if it has ended."""
    process = state.read_process(record)
    if process:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    return process


def end_session(record: Path) -> None:
    """End a recorded process and those it started."""
    process = signal_session(record, signal.SIGKILL)
    if process:
        state.kill(process)


def remove_dead() -> list[int]:
    """Take apart every rack whose owner has died; returns their numbers."""
    state.STATE_ROOT.mkdir(mode=0o755, exist_ok=True)
    with state.locked(state.STATE_ROOT / ".sweeping"):
        dead = [number for number in state.numbers() if _is_dead(state.STATE_ROOT / str(number))]
        for number in dead:
            remove(number)
    return dead


def _is_dead(directory: Path) -> bool:
    description = state.read_json(directory / "rack.json")
    if description is None:
        # Somebody may be about to write it.
        try:
            return time.time() - directory.stat().st_mtime > _BUILT_WITHIN_S
        except FileNotFoundError:
            return False
    owner = description["owner"]
    return owner is not None and not ProcessId(**owner).alive()


def _remove_disks(disks: Path) -> None:
    """Remove the servers' files. A test that was killed may have left a file system mounted among them."""
    if not disks.exists():
        return
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed(mounted):  # what was mounted last goes first
        if Path(place).is_relative_to(disks):
            subprocess.run(["umount", place], check=True)
    shutil.rmtree(disks)
