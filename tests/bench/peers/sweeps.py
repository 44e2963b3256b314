"""Peers of sweeps: process pools and task queues that compute points, each in a driver of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.harness import CannotMeasureError

PACKAGES = ("celery[redis]>=5.4", "distributed>=2024.1", "joblib>=1.4", "hyperqueue>=0.19")


def install(place: Path) -> None:
    """Make the peers' venv. Called while there is a network; failing is not an error until it is measured."""
    uv = Path(sys.executable).parent / "uv"
    python = place / "bin/python"
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=False)
    for package in PACKAGES:
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, package], check=False)


@dataclass
class Peer:
    """One running peer."""

    driver: subprocess.Popen[str]
    log: Path

    def rate(self, points: int, chunk: int, seconds: float = 0.0) -> float:
        """Points a second, all results in one place."""
        assert self.driver.stdin
        self.driver.stdin.write(f"run {points} {chunk} {seconds}\n")
        self.driver.stdin.flush()
        return points / float(self.hear("took").split()[1])

    def hear(self, word: str) -> str:
        """The next line that begins with `word`."""
        assert self.driver.stdout
        for line in self.driver.stdout:
            if line.startswith(word):
                return line
        raise CannotMeasureError(f"its driver ended; see {self.log}")


@contextlib.contextmanager
def running(kind: str, folder: Path, venv: Path) -> Iterator[Peer]:
    """A peer whose workers are warm. Raises CannotMeasureError."""
    if kind == "celery" and shutil.which("redis-server") is None:
        raise CannotMeasureError("there is no redis-server")
    python = venv / "bin/python"
    if not python.exists():
        raise CannotMeasureError("its packages could not be installed")
    folder.mkdir(parents=True)
    log = folder / "driver.log"
    driver = Path(__file__).with_name("sweep_driver.py")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [python, "-P", driver, kind, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        peer = Peer(process, log)
        peer.hear("ready")
        yield peer
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(60)
