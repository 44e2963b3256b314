"""What people use without a scheduler: ssh, rsync and uv by hand, GNU parallel, xargs, task-spooler."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.harness import CannotMeasureError, stamp_of, wait_for

UV = Path(sys.executable).parent / "uv"


def _need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        raise CannotMeasureError(f"{program} is not installed (Debian: {package})")


@dataclass
class ByHand:
    """rsync, ssh and uv over a connection that is open already: the limit for any tool that stages and makes a venv."""

    folder: Path
    project: Path
    host: str = "bench-open"
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def first_line(self) -> float:
        """Seconds from the start of rsync to the first line of the program in its own new venv."""
        number = next(self.numbers)
        place, path = self.folder / f"by-hand-{number}", self.folder / f"first-line-{number}"
        remote = (
            f"cd {place} && {UV} venv -q venv --python {sys.executable} && "
            f"{UV} pip install -q --python venv/bin/python -r requirements.txt && venv/bin/python main.py {path}"
        )
        started_s = time.time()
        subprocess.run(["rsync", "-a", f"{self.project}/", f"{self.host}:{place}/"], check=True)
        subprocess.run(["ssh", self.host, remote], check=True, stdout=subprocess.DEVNULL)
        return stamp_of(path) - started_s


def ssh_alone(host: str) -> float:
    """Seconds of `ssh HOST true`."""
    started_s = time.monotonic()
    subprocess.run(["ssh", host, "true"], check=True)
    return time.monotonic() - started_s


def xargs(jobs: int) -> float:
    """Jobs a second of `xargs -P2`, which keeps no record: the limit of starting processes here."""
    started_s = time.monotonic()
    numbers = "\n".join(map(str, range(jobs)))
    command = ["xargs", "-P", str(os.cpu_count() or 1), "-n", "1", "sh", "-c", ":"]
    subprocess.run(command, input=numbers, text=True, check=True)
    return jobs / (time.monotonic() - started_s)


def parallel(jobs: int, folder: Path, host: str | None = None) -> float:
    """Jobs a second of GNU parallel with a job log, here or over ssh.

    Raises CannotMeasureError where it is not installed.
    """
    _need("parallel", "parallel")
    log = folder / f"parallel-{time.monotonic_ns()}.log"
    command = ["parallel", "--will-cite", "--joblog", str(log)]
    command += [
        "--jobs",
        "64",
        *(["--sshlogin", f"64/{host}"] if host else []),
        "sh -c :",
        ":::",
        *map(str, range(jobs)),
    ]
    started_s = time.monotonic()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - started_s
    recorded = len(log.read_text().splitlines()) - 1
    if recorded != jobs:
        raise CannotMeasureError(f"GNU parallel recorded {recorded} of {jobs} jobs")
    return jobs / seconds


@dataclass
class TaskSpooler:
    """Debian's task-spooler; its command is tsp."""

    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def environment(self) -> dict[str, str]:
        """A socket and a list of our own."""
        maximum = {"TS_SOCKET": str(self.folder / "socket"), "TS_MAXFINISHED": "100000", "TS_MAXCONN": "1000"}
        return {**os.environ, "TMPDIR": str(self.folder), **maximum}

    def tsp(self, *arguments: str) -> str:
        """One call."""
        ended = subprocess.run(["tsp", *arguments], env=self.environment, check=True, capture_output=True, text=True)
        return ended.stdout

    def first_line(self) -> float:
        """Seconds from the start of tsp to the first line."""
        path = self.folder / f"first-line-{next(self.numbers)}"
        started_s = time.time()
        self.tsp("-n", "sh", "-c", f"date +%s.%N > {path}.new; mv {path}.new {path}")
        return stamp_of(path) - started_s

    def throughput(self, jobs: int) -> float:
        """Jobs a second; one call of tsp each, which is its only way."""
        self.tsp("-C")
        started_s = time.monotonic()
        for _ in range(jobs):
            self.tsp("-n", "sh", "-c", ":")
        wait_for(lambda: self.tsp().count("finished") >= jobs, f"the end of {jobs} jobs", 600, every_s=0.05)
        return jobs / (time.monotonic() - started_s)


@contextlib.contextmanager
def task_spooler(folder: Path, slots: int = 64) -> Iterator[TaskSpooler]:
    """A task-spooler with an empty list. Raises CannotMeasureError where it is not installed."""
    _need("tsp", "task-spooler")
    folder.mkdir(parents=True)
    spooler = TaskSpooler(folder)
    spooler.tsp("-S", str(slots))
    try:
        yield spooler
    finally:
        spooler.tsp("-K")
