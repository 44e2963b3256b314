"""A controller with a shared spool on a test rack, its laptop, and three nodes, one of them behind another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.end_to_end.site import WAIT_S, UnreachableError, ask, until
from tests.rack import Rack, ServerSpec

BIN = Path(sys.executable).parent
SPOOL = "/var/lib/racksack"
LOST_AFTER_S = 10
SIZES: dict[str, dict[str, Any]] = {
    "r1": {"cpus": 4, "ram": "8G", "max_jobs": 5, "reserve": {"cpus": 1, "ram": "1G"}},
    "r2": {"cpus": 6, "ram": "6G", "labels": ["big"]},
    "r3": {"cpus": 2, "ram": "4G", "gpus": [{"model": "RX 6600", "vram": "8G", "count": 2}]},
}
SERVERS = (
    ServerSpec("laptop", role="laptop", users=("ann", "bob")),
    ServerSpec("controller", role="controller", users=("racksack", "ann", "bob")),
    ServerSpec("r1", subnets=("a", "b")),
    ServerSpec("r2", subnets=("b",)),
    ServerSpec("r3"),
)


class Rig:
    """The rack with its controller; `close` ends the controller, the rack ends with its fixture."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack
        self.host = rack["controller"]
        self.laptop = rack["laptop"]
        self.process: subprocess.Popen[Any] | None = None
        self._log = 0

    def prepare(self) -> None:
        """Switch all on and install the configuration."""
        self.rack.up()
        nodes = self.rack.nodes_config()
        for name, size in SIZES.items():
            nodes[name].update(size)
            nodes[name]["ssh"]["keepalive"] = "1s"
        config = {
            "spool": SPOOL,
            "group": "racksack",
            "web": {"listen": "off"},
            "defaults": {"lost_after": f"{LOST_AFTER_S}s"},
            "nodes": nodes,
        }
        self.host.install("/etc/racksack.yaml", yaml.safe_dump(config))
        self.host.exec(["install", "-d", "-o", "racksack", "-g", "racksack", SPOOL], user="root")

    def start(self) -> None:
        """Start the controller and wait until all nodes are up."""
        self._launch()
        until(lambda: self._up(), "all nodes are up", 60)

    def _launch(self) -> None:
        """Start the controller, with a log of its own."""
        self._log += 1
        log = (self.rack.directory / f"racksack-{self._log}.log").open("w")
        argv = [sys.executable, "-P", "-m", "racksack_controller", "--config", "/etc/racksack.yaml"]
        self.process = self.host.popen(argv, user="racksack", env=python_path(), stdout=log, stderr=log)
        log.close()

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        nodes = self.ask("nodes")
        return nodes is not None and all(node["state"] == "up" for node in nodes)

    def ask(self, call: str) -> Any:
        """GET from the API as root of the controller's host, None when there is no answer.

        The socket is reached through that host's file system: a look costs no process, however often a test looks.
        """
        pid1 = self.host.pid1
        assert pid1 is not None, "the controller's host is off"
        try:
            return ask(Path(f"/proc/{pid1.pid}/root{SPOOL}/controller.sock"), call)
        except UnreachableError:
            return None

    def kill(self) -> None:
        """`kill -9` of the controller."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=20)
            self.process = None

    def close(self) -> None:
        """The polite end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=20)
        self.kill()

    def log(self) -> str:
        """The end of what the controller wrote."""
        return (self.rack.directory / f"racksack-{self._log}.log").read_text()[-4000:]

    def cli(
        self, program: str, *argv: object, user: str = "ann", code: int | None = 0, timeout_s: float = 90.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the laptop."""
        return self.on_laptop([str(BIN / program), *map(str, argv)], user=user, code=code, timeout_s=timeout_s)

    def on_laptop(
        self, argv: Sequence[str], user: str = "ann", code: int | None = 0, timeout_s: float = 90.0
    ) -> subprocess.CompletedProcess[str]:
        """Run anything on the laptop, where the controller is configured."""
        env = {"RACKSACK_CONTROLLER": "controller", **python_path()}
        done = self.laptop.exec(argv, user=user, env=env, check=False, timeout_s=timeout_s)
        assert "Traceback" not in done.stderr, f"{argv}\n{done.stderr}"
        if code is not None:
            assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done

    def submit(self, project: str, *argv: object, user: str = "ann") -> int:
        """Submit from the laptop; the job's id."""
        return int(self.cli("submit", project, "main.py", "--parsable", "--no-venv", *argv, user=user).stdout)

    def job(self, job_id: int) -> Any:
        """One job with attempts, spec and story; None when there is no answer."""
        return self.ask(f"jobs/{job_id}")

    def wait_for(self, job_id: int, *states: str, attempt: int | None = None, timeout_s: float = WAIT_S) -> Any:
        """The job once it is in one of these states, as attempt number `attempt` if that is given."""

        def look() -> Any:
            job = self.job(job_id)
            return job if job and job["state"] in states and attempt in (None, job["attempt"]) else None

        try:
            return until(look, f"job {job_id} is {states}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.job(job_id)}\n{self.log()}") from None

    def returned(self, job_id: int) -> Path:
        """The return folder as a path of the machine."""
        return self.host.disk / f"upper{SPOOL}/returns/{job_id}"


@contextlib.contextmanager
def running(rack: Rack) -> Iterator[Rig]:
    """A rig on a rack of SERVERS whose nodes are all up; its controller ends afterwards."""
    rig = Rig(rack)
    rig.prepare()
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


def python_path() -> Mapping[str, str]:
    """What the tests' own environment says about where our packages are."""
    return {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
