"""Jobs on several nodes: three nodes of one machine, and programs that meet over TCP."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end import projects
from tests.end_to_end.site import Site, until
from tests.sizes import FULL

MakeSite = Callable[..., Site]
RANKS = 3
KILLS = 12 if FULL else 3


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """Three nodes that are all this machine."""
    site = make_site("")
    nodes = "".join(
        f"  n{at}: {{local: {{home: {site.home}/node{at}}}, address: 127.0.0.1, cpus: 2, ram: 4G}}\n"
        for at in range(1, RANKS + 1)
    )
    (site.home / "racksack.yaml").write_text('web: {listen: "off"}\nwatch: {settle: 1s, rescan: 2s}\nnodes:\n' + nodes)
    return site


@pytest.fixture
def project(site: Site) -> Path:
    return projects.make(site.work / "p", projects.RENDEZVOUS)


def nodes_are_empty(site: Site) -> None:
    for at in range(1, RANKS + 1):
        attempts = site.home / f"node{at}/attempts"
        until(lambda attempts=attempts: not list(attempts.iterdir()), f"nothing is left on n{at}")
    assert [entry.name for entry in (site.spool / "returns").iterdir() if entry.name.startswith(".")] == []


def met(site: Site, job: int, attempt: int = 1) -> None:
    """All ranks of this attempt met, each ran once in it, and each one's folder is in its place."""
    told = Counter(line for line in site.traced() if line.endswith(f" {job}.{attempt}"))
    assert told == Counter(f"{word} {rank} {job}.{attempt}" for word in ("start", "end") for rank in range(RANKS))
    folder = site.returned(job)
    result = json.loads((folder / "result.json").read_text())
    assert (result["state"], result["attempt"]) == ("done", attempt)
    nodes = [rank["node"] for rank in result["ranks"]]
    assert len(set(nodes)) == RANKS
    assert (folder / "stdout.log").read_text() == f"rank 0 met {' '.join(nodes[1:])}\n"
    for rank in range(1, RANKS):
        assert (folder / f"rank-{rank}/stdout.log").read_text() == f"rank {rank} met {nodes[0]}\n"
        assert (folder / f"rank-{rank}/where").read_text() == nodes[rank]


def test_ranks_meet_and_all_of_it_comes_back(site: Site, project: Path) -> None:
    site.start()
    job = site.submit(project, "--nodes", RANKS)
    site.wait_for(job, "done")
    met(site, job)
    logs = site.cli("racksack", "logs", job, "--rank", 2).stdout
    assert logs == (site.returned(job) / "rank-2/stdout.log").read_text()
    assert "no rank 3" in site.cli("racksack", "logs", job, "--rank", 3, code=3).stderr
    site.cli("fetch-results", job, "-o", "got")
    [got] = (site.work / "got").iterdir()
    assert (got / "rank-1/where").read_text() == "n2"
    page = site.page(f"jobs/{job}")
    assert "3 nodes, on each 1 CPU" in page
    assert '<a class="raw" href="?rank=2#stdout">rank 2</a>' in page
    assert f"/api/v1/jobs/{job}/logs/stdout?rank=2" in site.page(f"jobs/{job}?rank=2")
    nodes_are_empty(site)
    refused = site.cli("submit", project, "main.py", "--nodes", 4, "--no-venv", code=6).stderr
    assert "it needs 4 nodes at once, and only 3 nodes could run a rank of it" in refused


def test_one_failing_rank_ends_all_and_so_does_a_cancel(site: Site, project: Path) -> None:
    site.start()
    wait = site.root / "never"
    failing = site.submit(project, "--nodes", RANKS, "--", wait, "1")
    job = site.wait_for(failing, "failed")
    assert job["outcome_reason"] == "rank 1 on n2: exit code 7"
    assert [attempt["state"] for attempt in job["attempts"]] == ["cancelled", "failed", "cancelled"]
    assert job["exit_code"] == 7
    result = json.loads((site.returned(failing) / "result.json").read_text())
    assert (result["state"], result["reason"], result["exit_code"]) == ("failed", "rank 1 on n2: exit code 7", 7)
    cancelled = site.submit(project, "--nodes", RANKS, "--", wait)
    until(lambda: Counter(site.traced())[f"start 2 {cancelled}.1"], "all have met")
    out = site.cli("racksack", "attach", cancelled, "--rank", 1, "--json").stdout
    assert f"racksack-{cancelled}-1@1" in out
    site.cli("racksack", "cancel", cancelled)
    site.wait_for(cancelled, "cancelled")
    nodes_are_empty(site)


def test_a_killed_controller_changes_nothing_for_a_running_gang(site: Site, project: Path) -> None:
    site.start()
    go = site.root / "go"
    job = site.submit(project, "--nodes", RANKS, "--", go)
    site.wait_for(job, "running")
    site.kill()
    go.touch()
    site.start()
    site.wait_for(job, "done")
    met(site, job)
    nodes_are_empty(site)


def test_killed_at_random_every_gang_runs_once(site: Site, project: Path) -> None:
    """Between any two steps: while ranks are placed, sent, prepared, told to go, collected and put in place."""
    chance = random.Random(7)
    site.start()
    jobs = [site.submit(project, "--nodes", RANKS, "--submission-key", f"kill{number}") for number in range(4)]
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 0.4))
        site.kill()
        site.start()
    site.all_ended(len(jobs))
    for job in jobs:
        site.wait_for(job, "done")
        met(site, job)
    nodes_are_empty(site)
