"""One Slurm for all tests here, and homes on it. Skipped by name where Slurm's daemons are not installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.serving import Serve, order
from tests.slurm import cluster
from tests.slurm.cluster import Cluster

PATIENCE = {"look_s": 0.2, "absent_s": 4.0, "record_s": 2.0, "again_s": 1.0}


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster."""
    if problem := cluster.missing():
        pytest.skip(f"no Slurm: {problem}")
    with cluster.running(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running


class Served:
    """A home on the cluster's shared file system, and the agent on its login node."""

    def __init__(self, home: Path, slurm: Cluster) -> None:
        self.home = home
        self.slurm = slurm
        self.serve = self.start()

    def start(self, **env: str) -> Serve:
        """Start an agent, beside any other or in its place."""
        settings = json.dumps({**PATIENCE, "partitions": ["cpu", "gpu"]})
        self.serve = Serve(self.home, "--slurm", settings, env={"SLURM_CONF": str(self.slurm.conf), **env})
        return self.serve

    def order(self, attempt: str, digest: str, entrypoint: str, *args: str, **more: Any) -> dict[str, Any]:
        """An order with a fraction of the usual memory."""
        slurm = {"partition": "cpu", "walltime_s": 1800.0, **more.pop("slurm", {})}
        return order(attempt, digest, entrypoint, *args, **{"ram_bytes": 64 << 20, "slurm": slurm, **more})

    def job(self, attempt: str) -> int:
        """The number of an attempt's batch job."""
        found: int = json.loads((self.home / "attempts" / attempt / "slurm.json").read_text().splitlines()[0])["job"]
        return found

    def close(self) -> None:
        """End all attempts, and the agent."""
        for report in self.serve.call("reports"):
            if report["state"] != "ended":
                self.serve.call("stop", attempt=report["attempt"], reason="cancelled", grace_s=0)
                self.serve.ended(report["attempt"], 60)
        self.serve.close()


@pytest.fixture
def served(tmp_path: Path, slurm: Cluster) -> Iterator[Served]:
    """A home on the cluster, with an agent."""
    one = Served(tmp_path / "home", slurm)
    yield one
    one.close()


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a project of one shell script, `main.sh`."""

    def make(text: str) -> Path:
        folder = tmp_path / f"project-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "main.sh").write_text("#!/bin/sh\n" + text)
        (folder / "main.sh").chmod(0o755)
        return folder

    return make
