"""racksack under measurement: a real controller as its own process, used through the spool and the socket alone."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.harness import stamp_of, wait_for
from tests.bench.sshd import Sshd

COMMANDS = Path(sys.executable).parent


class Socket(http.client.HTTPConnection):
    """HTTP over the controller's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        """As http.client wants it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@dataclass
class Racksack:
    """A running controller."""

    folder: Path
    process: subprocess.Popen[bytes]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def spool(self) -> Path:
        """Its spool."""
        return self.folder / "spool"

    def get(self, path: str) -> Any:
        """One answer of the API."""
        connection = Socket(self.spool / "controller.sock")
        with contextlib.closing(connection):
            connection.request("GET", f"/api/v1/{path}")
            return json.load(connection.getresponse())

    def node_states(self) -> dict[str, str]:
        """State by node; empty while there is no answer."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return {node["name"]: node["state"] for node in self.get("nodes")}
        return {}

    def upload(self, project: Path) -> str:
        """Put a project into incoming/, as rsync would; returns its name there."""
        name = f"bench-{next(self.numbers)}"
        shutil.copytree(project, self.spool / "incoming" / name)
        return name

    def drop(self, text: str, name: str) -> float:
        """Rename a job file into jobs/; returns the time just before."""
        beside = self.folder / f"{name}.new"
        beside.write_text(text)
        now_s = time.time()
        beside.rename(self.spool / "jobs" / f"{name}.yaml")
        return now_s

    def returned(self) -> set[str]:
        """The jobs whose results are in place."""
        return {entry.name for entry in os.scandir(self.spool / "returns") if entry.name.isdigit()}

    def first_line(self, project: str, node: str) -> float:
        """Seconds from the rename of the job file to the first line of the program in its own new venv."""
        number = next(self.numbers)
        path = self.folder / f"first-line-{number}"
        before = len(self.returned())
        job = f"project: {project}\nentrypoint: main.py\nargs: [{path}]\nram: 100M\nnode: {node}\n"
        started_s = self.drop(f"{job}submission: first-{number}\n", f"first-{number}")
        seconds = stamp_of(path) - started_s
        wait_for(lambda: len(self.returned()) > before, "the return of the results", 60, every_s=0.02)
        return seconds

    def throughput(self, project: str, node: str, jobs: int) -> float:
        """Jobs a second: as many job files, until all results are in returns/."""
        number = next(self.numbers)
        before = len(self.returned())
        text = f"project: {project}\nentrypoint: nothing\nenvironment: none\nram: 10M\nnode: {node}\n"
        for index in range(jobs):
            (self.folder / f"many-{number}-{index}.yaml").write_text(f"{text}submission: many-{number}-{index}\n")
        started_s = time.monotonic()
        for index in range(jobs):
            name = f"many-{number}-{index}.yaml"
            (self.folder / name).rename(self.spool / "jobs" / name)
        limit_s = 120 + jobs / 5
        wait_for(lambda: len(self.returned()) - before >= jobs, f"the results of {jobs} jobs", limit_s, every_s=0.1)
        return jobs / (time.monotonic() - started_s)


def ssh_node(sshd: Sshd, slots: int) -> dict[str, Any]:
    """The configuration of a node behind the benchmark's sshd."""
    reach = {
        "host": sshd.host,
        "port": sshd.port,
        "user": "root",
        "identity": str(sshd.identity),
        "host_key": sshd.host_key,
    }
    return {"ssh": reach, "cpus": slots, "ram": "900G", "max_jobs": slots, "gpus": []}


def local_node(slots: int) -> dict[str, Any]:
    """The configuration of the machine itself."""
    return {"local": {}, "cpus": slots, "ram": "900G", "max_jobs": slots, "gpus": []}


@contextlib.contextmanager
def running(folder: Path, nodes: Mapping[str, Mapping[str, Any]], listen: str = "off") -> Iterator[Racksack]:
    """A controller whose nodes are all up."""
    folder.mkdir(parents=True)
    for node in nodes.values():
        if "ssh" in node:
            node["ssh"].setdefault("home", str(folder / "node-home"))
    config = folder / "racksack.yaml"  # JSON is YAML
    config.write_text(json.dumps({"spool": str(folder / "spool"), "web": {"listen": listen}, "nodes": dict(nodes)}))
    with (folder / "controller.log").open("wb") as log:
        command = [COMMANDS / "racksack", "controller", "--config", config]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        racksack = Racksack(folder, process)
        try:
            wait_for(lambda: process.poll() is not None or _all_up(racksack, nodes), "all nodes up", 60, every_s=0.05)
            if process.poll() is not None:
                raise OSError(f"the controller ended; see {folder / 'controller.log'}")
            yield racksack
        finally:
            process.terminate()
            process.wait(30)


def _all_up(racksack: Racksack, nodes: Mapping[str, Mapping[str, Any]]) -> bool:
    states = racksack.node_states()
    return set(states) == set(nodes) and set(states.values()) == {"up"}
