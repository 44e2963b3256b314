"""A rack whose servers are off, and a controller that switches them through real drivers.

Every server has its own way of being switched. The rack's record of events, which the servers and BMCs write, is the
witness: not the controller's log.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.end_to_end import projects
from tests.end_to_end.rig import BIN, SPOOL, Rig, python_path
from tests.end_to_end.site import until
from tests.rack import Rack, ServerSpec
from tests.rack.bmc import Bmc, Kind, outlet_settings, wake_settings
from tests.rack.state import PowerEvent

CONTROLLER = ServerSpec("controller", role="controller", subnets=("a", "management"), users=("racksack", "ann"))
IDLE_OFF_S = 4.0
DOWN = ("power-button", "stopping", "off", "power-cut")  # events of a server that goes down
USUAL: dict[str, Any] = {"idle_off": f"{IDLE_OFF_S:g}s", "min_on": "1s", "boot_timeout": "40s", "off_grace": "15s"}
# Runs on the controller's host as ann: one process with the Python API.
SUBMIT = """
import json, sys, racksack
print(json.dumps([racksack.submit(p, "main.py", **wish).id for p, wish in json.load(sys.stdin)]))
"""


def node(name: str, boot_delay_s: float = 1.0, stop_timeout_s: float = 2.0, **more: Any) -> ServerSpec:
    """A server whose power is switched."""
    return ServerSpec(name, bmc=True, boot_delay_s=boot_delay_s, stop_timeout_s=stop_timeout_s, **more)


class PowerRig(Rig):
    """A controller host and servers that are off. `power` blocks are made by the methods named after the drivers."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack
        self.host = self.laptop = rack["controller"]  # users work on the controller's host
        self.process = None
        self._log = 0
        self.bmcs: dict[str, Bmc] = {}
        self.began_s = time.time()
        self.jobs: list[int] = []

    def bmc(self, name: str, kind: Kind, **faults: Any) -> dict[str, Any]:
        """The driver's block for a server, whose BMC is started."""
        bmc = self.bmcs[name] = Bmc(self.rack, name, kind, password=f"hush-{name}-4711")
        if faults:
            bmc.set_faults(**faults)
        return bmc.settings(bmc.install_password(self.host))

    def wol(self, name: str, **more: Any) -> dict[str, Any]:
        """Magic packets for a server."""
        return wake_settings(self.rack[name], **{"repeats": 3, "spacing": "0.2s", **more})

    def outlet(self, name: str) -> dict[str, Any]:
        """A power outlet for a server."""
        return outlet_settings(self.rack, name)

    def configure(
        self,
        power: Mapping[str, Mapping[str, Any]],
        sizes: Mapping[str, Mapping[str, Any]],
        idle_off: str = USUAL["idle_off"],
    ) -> None:
        """Switch the controller's host on and install the configuration; the servers stay off."""
        self.rack.up("controller")
        nodes = self.rack.nodes_config()
        for name, block in nodes.items():
            block["ssh"] |= {"keepalive": "1s", "connect_timeout": "5s"}
            block.update(sizes[name])
            if name in power:
                block["power"] = {**USUAL, "idle_off": idle_off, **power[name]}
        config = {
            "spool": SPOOL,
            "group": "racksack",
            "operators": ["ann"],
            "web": {"listen": "127.0.0.1:8470"},
            "power": {"boot_stagger": "0.2s", "price_per_kwh": 0.3},
            "defaults": {"lost_after": "8s"},
            "nodes": nodes,
        }
        self.install(config)
        self.host.exec(["install", "-d", "-o", "racksack", "-g", "racksack", SPOOL], user="root")

    def install(self, config: Mapping[str, Any]) -> None:
        """Put a configuration where the controller reads it."""
        self.host.install("/etc/racksack.yaml", yaml.safe_dump(dict(config)))

    def start(self) -> None:
        """Start the controller and wait until it answers."""
        self._launch()
        try:
            until(lambda: self.process.poll() is not None or self.ask("nodes"), "the controller answers", 60)
            assert self.process.poll() is None, "the controller ended"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    @contextmanager
    def running(self) -> Iterator[PowerRig]:
        """With the controller started, which is ended after it."""
        try:
            self.start()
            yield self
        finally:
            self.close()

    def cli(
        self, program: str, *argv: object, user: str = "ann", code: int | None = 0, timeout_s: float = 90.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the controller's host."""
        env = {"RACKSACK_CONTROLLER": SPOOL, **python_path()}
        argv_ = [str(BIN / program), *map(str, argv)]
        done = self.host.exec(argv_, user=user, env=env, check=False, timeout_s=timeout_s)
        assert "Traceback" not in done.stderr, f"{argv_}\n{done.stderr}"
        if code is not None:
            assert done.returncode == code, f"{argv_}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done

    def project(self, name: str, script: str) -> str:
        """A project of ann's with this program as its main.py."""
        folder = self.host.home("ann") / name
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(script)
        uid = self.host.uid("ann")
        subprocess.run(["chown", "-R", f"{uid}:{uid}", str(folder)], check=True)
        return name

    def submit_all(self, wishes: Sequence[tuple[str, Mapping[str, Any]]]) -> list[int]:
        """Submit many jobs by one process of ann's."""
        env = {"RACKSACK_CONTROLLER": SPOOL, **python_path()}
        asked = [(project, {"environment": "none", **wish}) for project, wish in wishes]
        done = self.host.exec([sys.executable, "-c", SUBMIT], user="ann", env=env, stdin=json.dumps(asked))
        ids: list[int] = json.loads(done.stdout)
        return ids

    def submit_traced(self, name: str, nodes: Sequence[str], until_: str = "1") -> int:
        """Submit a job that traces its start on its node, and ends when a file is there or after its time (seconds)."""
        project = self.project("traced", projects.TRACED)
        wish = {"nodes": list(nodes), "name": name, "cpus": 1, "ram": "200M", "args": [until_]}
        return self.submit_all([(project, {**wish, "env": {"TRACE": f"/home/racksack/trace-{name}"}})])[0]

    def ended(self, ids: Sequence[int], timeout_s: float = 120.0) -> list[Any]:
        """The jobs once all are done."""
        wanted = set(ids)

        def look() -> list[Any] | None:
            jobs = self.ask("jobs?all=1&limit=1000") or []
            found = [job for job in jobs if job["id"] in wanted]
            assert not [job for job in found if job["state"] in ("failed", "cancelled", "oom")], found
            return found if found and all(job["state"] == "done" for job in found) else None

        try:
            return until(look, f"jobs {ids} are done", timeout_s)
        except AssertionError as error:
            jobs = [(job["id"], job["state"], job["node"], job["why"]) for job in self.ask("jobs?all=1") or []]
            raise AssertionError(f"{error}\n{jobs}\n{self.story()}\n{self.log()}") from None

    def all_off(self, *names: str, timeout_s: float = 60.0) -> None:
        """Wait until these servers (default: all nodes) have no power, and the controller knows."""
        wanted = names or tuple(server.name for server in self.rack.nodes)

        def look() -> bool:
            phases = self.phases()
            return all(not self.rack[name].running and phases.get(name) in ("off", "set_aside") for name in wanted)

        try:
            until(look, f"{wanted} are off", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.phases()}\n{self.story()}\n{self.log()}") from None

    def phases(self) -> dict[str, str]:
        """The phase of each node whose power is switched."""
        return {one["name"]: one["power"]["phase"] for one in self.ask("nodes") or [] if one["power"]}

    def wait_phase(self, name: str, *phases: str, timeout_s: float = 60.0) -> None:
        """Wait until a node is in one of these phases."""
        try:
            until(lambda: self.phases().get(name) in phases, f"{name} is {phases}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.phases()}\n{self.story()}\n{self.log()}") from None

    def events(self, name: str | None = None) -> list[PowerEvent]:
        """What the rack itself recorded since `began_s`."""
        return [event for event in self.rack.events(name) if event.time_s >= self.began_s]

    def count(self, name: str, event: str) -> int:
        """How often the rack recorded an event of a server since `began_s`."""
        return [one.event for one in self.events(name)].count(event)

    def booted(self) -> list[str]:
        """The nodes that were switched on since `began_s`, each as often as it was."""
        nodes = {server.name for server in self.rack.nodes}
        return [event.server for event in self.events() if event.event == "power-on" and event.server in nodes]

    def no_power_was_taken_from_jobs(self, *reasons: str) -> None:
        """By the rack's own record: no server went down while an attempt that came to its end ran on it.

        `reasons` are those of power that a test has cut.
        """
        for job in self.ask("jobs?all=1&limit=1000") or []:
            if job["started_at_s"] is None or job["ended_at_s"] is None or job["state"] != "done":
                continue
            taken = [
                event
                for event in self.events(job["node"])
                if event.event in DOWN
                and event.detail not in reasons
                and job["started_at_s"] <= event.time_s <= job["ended_at_s"]
            ]
            assert not taken, f"job {job['id']} ran on {job['node']}: {taken}\n{self.story()}"

    def why(self, name: str) -> str:
        """`racksack why NODE`."""
        return self.cli("racksack", "why", name).stdout.strip()

    def story(self) -> str:
        """The controller's own story of power, for the message of a failed test."""
        lines = self.ask("power?since_s=0") or []
        return "\n".join(
            f"{line['at_s'] - self.began_s:6.1f} {line['node']} {line['way']} {line['sentence']}"
            for line in lines[-60:]
        )


def home_of(rig: PowerRig, name: str) -> Path:
    """The home of the jobs' user on a node, as a path of the machine."""
    return rig.rack[name].home()
