"""A sweep whose runners are on the own server and on the cluster at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.end_to_end.site import Site
from tests.sizes import sized
from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.site import make_site

POINTS = sized(2000, 65_536)
CODE = """
import time
def double(x):
    time.sleep(0.01)
    return {"v": 2 * x}
def broken(x):
    raise SystemExit(3)
"""


@pytest.fixture
def site(slurm: Cluster) -> Iterator[Site]:
    """One with a small server."""
    if not (shutil.which("tmux") or shutil.which("screen")):
        pytest.skip("neither tmux nor screen is installed")
    one = make_site(slurm, cpus=1, max_jobs=6, cost=0.0)
    try:
        folder = one.work / "project"
        folder.mkdir()
        (folder / "main.py").write_text(CODE)
        one.start()
        yield one
    finally:
        one.close()


@pytest.mark.timeout(sized(120, 1200))
def test_it_spans_both_and_gives_the_cluster_back(site: Site, slurm: Cluster) -> None:
    argv = ["sweep", "run", site.work / "project", "main.py:double", "--param", f"x=1:{POINTS}:1", "--metric", "v:max"]
    done = site.cli("racksack", *argv, "--no-venv", "--yes", "--wait", "--ram", "100M", timeout_s=sized(100, 1100))
    assert f"{POINTS:,} of {POINTS:,} points done" in done.stdout + done.stderr
    best = site.cli("racksack", "sweep", "top", "last").stdout.splitlines()[1].split()
    assert str(2 * POINTS) in best
    log = (site.home / "controller.log").read_text()
    assert "attempt 1 placed on here" in log
    assert "attempt 1 placed on campus" in log
    wait_for(lambda: not slurm.living(), "the runners to be gone")


def test_runners_that_cannot_start_end_the_sweep_with_the_reason(site: Site, slurm: Cluster) -> None:
    config = site.home / "racksack.yaml"
    site.stop()
    config.write_text(config.read_text().replace("cpu: {}", "cpu: {options: [--licenses=none:1]}"))
    site.start()
    argv = ["sweep", "run", site.work / "project", "main.py:double", "--param", "x=1:5:1", "--node", "campus"]
    done = site.cli("racksack", *argv, "--no-venv", "--yes", "--wait", "--metric", "v:max", code=None, timeout_s=100)
    assert done.returncode != 0
    assert "refused" in done.stdout + done.stderr
    assert not slurm.living()
