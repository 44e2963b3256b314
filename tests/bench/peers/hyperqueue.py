"""HyperQueue from its Python package, in a venv of its own."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.harness import CannotMeasureError, stamp_of, wait_for

PACKAGE = "hyperqueue>=0.19"


def install(place: Path) -> None:
    """Make its venv. Called while there is a network; failing is not an error until it is measured."""
    uv = Path(sys.executable).parent / "uv"
    if not (place / "bin" / "python").exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=False)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", place / "bin" / "python", PACKAGE], check=False)


@dataclass
class HyperQueue:
    """A server with one worker."""

    folder: Path
    driver: subprocess.Popen[str]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, request: str) -> None:
        """Send one request and wait until the server has it."""
        assert self.driver.stdin
        self.driver.stdin.write(request + "\n")
        self.driver.stdin.flush()
        self.hear("ok")

    def hear(self, word: str) -> None:
        """Read until the driver says `word`; HyperQueue prints things of its own in between."""
        assert self.driver.stdout
        for line in self.driver.stdout:
            if line.strip() == word:
                return
        raise CannotMeasureError(f"HyperQueue's driver ended; see {self.folder / 'driver.log'}")

    def first_line(self) -> float:
        """Seconds from an open client's submit to the first line."""
        path = self.folder / f"first-line-{next(self.numbers)}"
        started_s = time.time()
        self.ask(f"first {path}")
        return stamp_of(path) - started_s

    def throughput(self, jobs: int) -> float:
        """Tasks a second: one job of many tasks, each of which leaves one empty file."""
        place = self.folder / f"many-{next(self.numbers)}"
        place.mkdir()
        started_s = time.monotonic()
        self.ask(f"many {jobs} {place}")
        wait_for(lambda: sum(1 for _ in place.iterdir()) >= jobs, f"the end of {jobs} tasks", 600, every_s=0.02)
        return jobs / (time.monotonic() - started_s)


@contextlib.contextmanager
def running(folder: Path, venv: Path, slots: int = 64) -> Iterator[HyperQueue]:
    """A HyperQueue that has run one task. Raises CannotMeasureError where it could not be installed."""
    python = venv / "bin" / "python"
    probe = (
        subprocess.run([python, "-c", "import hyperqueue"], check=False, capture_output=True)
        if python.exists()
        else None
    )
    if probe is None or probe.returncode:
        raise CannotMeasureError("hyperqueue could not be installed")
    folder.mkdir(parents=True)
    log = (folder / "driver.log").open("wb")
    command = [python, "-P", Path(__file__).with_name("hyperqueue_driver.py"), str(slots)]
    driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder)
    try:
        queue = HyperQueue(folder, driver)
        queue.hear("ready")
        queue.first_line()
        yield queue
    finally:
        driver.kill()
        driver.wait()
        log.close()
