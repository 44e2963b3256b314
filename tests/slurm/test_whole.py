"""A rack with a cluster behind it, used with the real commands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.end_to_end.site import Site
from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.site import make_project, make_site


@pytest.fixture(scope="module")
def site(slurm: Cluster) -> Iterator[Site]:
    """Its controller is shared by the tests."""
    if not (shutil.which("tmux") or shutil.which("screen")):
        pytest.skip("neither tmux nor screen is installed")
    one = make_site(slurm)
    try:
        make_project(one)
        one.start()
        yield one
    finally:
        one.close()


def test_a_job_that_only_the_cluster_can_hold(site: Site, slurm: Cluster) -> None:
    project = site.work / "project"
    told = site.cli("submit", project, "main.py", "--no-venv", "--cpus", 8, "--dry-run", "--", 0).stdout
    assert "fits on campus" in told
    number = site.submit(project, "--cpus", 8, "--gpus", "a100:1", "--", 0)
    job = site.wait_for(number, "done")
    assert job["attempts"][0]["node"] == "campus"
    assert (site.returned(number) / "result").read_text() == str(number)
    assert (site.returned(number) / "stdout.log").read_text().startswith("on campus n1")
    wait_for(lambda: not slurm.living(), "an empty queue")
    wait_for(lambda: not list((site.root / "shared").glob("*/attempts/*")), "an empty home")


def test_logs_and_cancel_reach_it(site: Site, slurm: Cluster) -> None:
    number = site.submit(site.work / "project", "--node", "campus", "--", 300)
    site.wait_for(number, "running")
    follow = site.popen("racksack", "logs", number, "-f")
    assert follow.stdout is not None
    assert follow.stdout.readline().startswith("on campus n")
    site.cli("racksack", "cancel", number)
    assert site.wait_for(number, "cancelled")["outcome_reason"].startswith("cancelled by")
    follow.communicate(timeout=60)
    assert not slurm.living()


def test_what_the_own_server_has_no_room_for_spills_over(site: Site) -> None:
    first = site.submit(site.work / "project", "--array", "0-5", "--cpus", 1, "--ram", "100M", "--", 2)
    jobs = [site.wait_for(number, "done") for number in range(first, first + 6)]
    assert {job["attempts"][0]["node"] for job in jobs} == {"here", "campus"}


def test_a_venv_is_built_in_the_job(site: Site) -> None:
    project = site.work / "with-venv"
    project.mkdir()
    (project / "main.py").write_text("import sys; print(sys.prefix)\n")
    done = site.cli("submit", project, "main.py", "--parsable", "--node", "campus")
    number = int(done.stdout.split()[0])
    site.wait_for(number, "done")
    assert "/venv" in (site.returned(number) / "stdout.log").read_text()


def test_node_check_tells_all(site: Site) -> None:
    told = site.cli("racksack", "node", "check", "campus", "--config", site.home / "racksack.yaml").stdout
    assert "sbatch: slurm-wlm" in told
    assert "gpu: 1 nodes, 64 CPUs, 4 GPUs a100" in told
    assert "a job ran on" in told
    assert "failed" not in told
