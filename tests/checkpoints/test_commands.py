"""Checkpoints as their users meet them, with a program that saves and runs until it may end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.site import Site, until
from tests.packaging.checkout import ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]
EXAMPLE = ROOT / "docs" / "examples" / "checkpoints" / "main.py"
CONFIG = """\
web: {{listen: "off"}}
watch: {{settle: 1s, rescan: 2s}}
nodes:
  a: {{local: {{}}, cpus: 8, ram: 16G}}
  b: {{local: {{home: {other}}}, cpus: 8, ram: 16G}}
"""
COUNTER = """\
import os, signal, sys, time
state = os.environ.get("RACKSACK_CHECKPOINT_DIR", "ckpt") + "/state"
step = int(open(state).read()) if os.path.exists(state) else 0
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print(f"goes on from {step}" if step else "begins", flush=True)
while not (asked or os.path.exists(sys.argv[1])):
    step += 1
    time.sleep(0.05)
    with open(state + ".new", "w") as file:
        file.write(str(step))
    os.rename(state + ".new", state)
if asked:
    sys.exit(1)
print("done", flush=True)
"""


class Rack:
    """A site with two nodes, and jobs that end when `go` is there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.project = site.work / "counter"
        self.project.mkdir()
        (self.project / "main.py").write_text(COUNTER)
        self.go = site.work / "go"

    def submit(self, *argv: object, paths: str = "ckpt") -> int:
        self.go.unlink(missing_ok=True)
        return self.site.submit(self.project, "--checkpoint", paths, *argv, "--", self.go)

    def cli(self, *argv: object, code: int = 0) -> str:
        done = self.site.cli("racksack", *argv, code=code)
        return done.stdout if code == 0 else done.stderr

    def kept(self, job: int) -> list[Path]:
        """The folders on the controller, the newest last."""
        found = json.loads(self.cli("checkpoints", job, "--json"))["checkpoints"]
        digests = [one["digest"] for one in reversed(found) if one["where"] == "controller"]
        return [self.site.spool / "checkpoints" / str(job) / digest for digest in digests]

    def cancelled(self, job: int) -> None:
        self.cli("cancel", job)
        self.site.wait_for(job, "cancelled")

    def run_on(self, job: int) -> tuple[Any, list[str]]:
        """Let it end; the job and what it printed."""
        self.go.touch()
        done = self.site.wait_for(job, "done")
        return done, self.cli("logs", job).splitlines()


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    site = Site(None)
    try:
        (site.home / "racksack.yaml").write_text(CONFIG.format(other=site.home / "other"))
        site.start()
        yield Rack(site)
    finally:
        site.close()


def test_a_cancelled_job_goes_on_where_it_saved_or_begins_anew(rack: Rack) -> None:
    job = rack.submit("--checkpoint-every", "1s")
    until(lambda: rack.kept(job), "a checkpoint is on the controller while the job runs")
    rack.cancelled(job)
    step = int((rack.kept(job)[-1] / "ckpt/state").read_text())
    assert f"of attempt 1, {len(str(step))}B" in rack.cli("status", job)
    assert f"fetch-results --checkpoint {job}" in rack.site.page(f"jobs/{job}")
    told = rack.site.cli("fetch-results", "--checkpoint", job).stdout
    fetched = rack.site.work / f"results/{job}-main.checkpoint/ckpt/state"
    assert fetched.read_text() == str(step), told
    rack.cli("retry", job, "--from-checkpoint")
    assert rack.run_on(job)[1] == [f"goes on from {step}", "done"]
    rack.cli("retry", job)
    assert rack.run_on(job)[1] == ["begins", "done"]
    assert "has no checkpoint" in rack.cli("retry", job, "--from-checkpoint", code=5)
    assert "has no checkpoint" in rack.site.cli("fetch-results", "--checkpoint", job, code=3).stderr


def test_where_the_newest_is_damaged_it_goes_on_from_the_one_before(rack: Rack) -> None:
    job = rack.submit("--checkpoint-every", "1s")
    until(lambda: len(rack.kept(job)) == 2, "two checkpoints")
    rack.cancelled(job)
    before, newest = rack.kept(job)
    step = (before / "ckpt/state").read_text()
    (newest / "ckpt/state").unlink()
    (newest / "ckpt/state").write_text("damaged")
    rack.cli("retry", job, "--from-checkpoint")
    done, printed = rack.run_on(job)
    assert printed == [f"goes on from {step}", "done"]
    told = [event["sentence"] for event in done["events"]]
    assert "the controller's copy of its checkpoint was damaged; it resumes from the one before" in told


def test_a_drained_node_hands_its_work_to_another(rack: Rack) -> None:
    job = rack.submit("--checkpoint-every", "1h")
    node = rack.site.wait_for(job, "running")["node"]
    until(lambda: rack.cli("logs", job), "it has begun")
    rack.cli("drain", node, "--now", "--reason", "test")
    until(lambda: rack.site.job(job)["attempt"] == 2, "it was placed again")
    done, printed = rack.run_on(job)
    rack.cli("resume", node)
    assert done["node"] != node
    assert [line.partition(" from ")[0] for line in printed] == ["goes on", "done"]


def test_all_ranks_of_a_gang_go_on_from_what_rank_0_saved(rack: Rack) -> None:
    job = rack.submit("--checkpoint-every", "1s", "--nodes", "2")
    until(lambda: rack.kept(job), "a checkpoint")
    rack.cancelled(job)
    step = (rack.kept(job)[-1] / "ckpt/state").read_text()
    rack.cli("retry", job, "--from-checkpoint")
    assert rack.run_on(job)[1] == [f"goes on from {step}", "done"]
    assert rack.cli("logs", job, "--rank", 1).splitlines() == [f"goes on from {step}", "done"]


def test_what_stands_in_the_way_is_said(rack: Rack) -> None:
    job = rack.submit("--checkpoint-every", "1s", paths="elsewhere/*.pt")
    assert "no checkpoint yet" in rack.cli("checkpoints", job)
    until(lambda: "nothing matches" in rack.cli("checkpoints", job), "it is said")
    rack.cli("cancel", job, "--force")
    plain = rack.site.submit(rack.project, "--", rack.go)
    assert "submit it with --checkpoint" in rack.cli("checkpoints", plain)
    assert "not within a job" in rack.cli("checkpoint", code=1)
    rack.cli("cancel", plain, "--force")


def test_the_example_goes_on_where_it_was(tmp_path: Path) -> None:
    def run(steps: int, place: Path) -> str:
        argv = [sys.executable, EXAMPLE, "--pause", "0", "--steps", str(steps)]
        done = subprocess.run(argv, cwd=place, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.splitlines()[-1]

    places = [tmp_path / "whole", tmp_path / "parts"]
    for place in places:
        place.mkdir()
    run(120, places[1])
    assert run(300, places[0]) == run(300, places[1])
