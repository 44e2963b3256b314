"""docs/operating.md as an owner types it in an emergency: the commands are taken from the page and run.

The machine's service is a controller that a stand-in for `systemctl` starts and stops.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.projects import make
from tests.packaging.checkout import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text()
SCRIPTS = Path(sys.executable).parent
SYSTEMCTL = f"""#!/bin/sh
case "$1" in
start) "{SCRIPTS}/racksack" status >/dev/null ;;
*) "{SCRIPTS}/racksack" controller stop
   while kill -0 "$(cat "$RACKSACK_HOME/spool/controller.lock")" 2>/dev/null; do sleep 0.1; done ;;
esac
"""


def commands(heading: str) -> list[str]:
    """The commands under one heading of the page."""
    text = re.split(rf"^### {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    text = re.split(r"^#", text, flags=re.MULTILINE)[0]
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


class Machine:
    """One on which a controller is installed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.home = folder, folder / name
        tools = folder / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "systemctl").write_text(SYSTEMCTL)
        (tools / "systemctl").chmod(0o755)
        path = f"{tools}:{SCRIPTS}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "RACKSACK_HOME": str(self.home), "HOME": str(folder)}

    @property
    def spool(self) -> Path:
        return self.home / "spool"

    def type(self, line: str, *codes: int) -> str:
        """What a line prints; it must end with one of `codes` (none given: 0)."""
        line = re.sub(r"(?<![\w.])/(srv|root|etc)/", rf"{self.folder}/\1/", line)
        done = subprocess.run(line, shell=True, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (codes or (0,)), f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def states(self) -> dict[str, str]:
        argv = [SCRIPTS / "racksack", "status", "--json"]
        done = subprocess.run(argv, env=self.env, capture_output=True, check=True, timeout=120)
        return {job["name"]: job["state"] for job in json.loads(done.stdout)["jobs"]}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rs-op-", dir="/tmp"))
    for name in ("srv/backup", "root", "etc"):
        (path / name).mkdir(parents=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def machine(folder: Path) -> Iterator[Machine]:
    """Two jobs: one done, one held."""
    machine = Machine(folder, "old")
    project = make(folder / "project", "print('hello')\n")
    machine.type(f"submit {project} main.py --name first --cpus 1 --ram 50M --wait")
    machine.type(f"submit {project} main.py --name second --cpus 1 --ram 50M --hold")
    yield machine
    for home in (folder / "old", folder / "new"):
        if (home / "spool").exists():
            Machine(folder, home.name).type("racksack controller stop", 0, 4)


def test_a_backup_and_a_restore(machine: Machine) -> None:
    for line in commands("Every night"):
        assert "2 jobs (1 unfinished)" in machine.type(line)
    machine.type(f"submit {machine.folder}/project main.py --name later --cpus 1 --ram 50M --hold")
    for line in commands("Bring a backup back"):
        machine.type(line)
    assert machine.states() == {"first": "done", "second": "held", "later": "held"}


def test_a_store_that_is_damaged(machine: Machine) -> None:
    lines = commands("The controller does not start, or `racksack doctor` says that the store is damaged")
    said = ""
    for line in lines:
        said += machine.type(line, *((1,) if line == "racksack fsck" else (0,)))
        if line.startswith("systemctl stop"):
            for path in machine.spool.glob("racksack.db*"):
                path.write_bytes(os.urandom(path.stat().st_size))
    assert "found     store" in said
    assert "repaired  job      job 1 (first)" in said
    assert machine.states() == {"first": "done", "second": "held"}


def test_moving_to_another_machine(machine: Machine, folder: Path) -> None:
    (folder / "etc" / "racksack").mkdir()
    lines = commands("Move to another machine")
    split = next(number for number, line in enumerate(lines) if "restore" in line)
    for line in lines[:split]:
        machine.type(line)
    new = Machine(folder, "new")
    for line in lines[split:]:
        new.type(line)
    assert new.states() == {"first": "done", "second": "held"}
    new.type("racksack release 2")
    deadline = time.monotonic() + 60
    while new.states()["second"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert new.type("racksack fsck").startswith("no problems found")
