"""What `racksack sweep` says to somebody who types: lists of jobs, wishes that cannot be met, sweeps that are over."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.site import Site

CODE = """
def double(x, sign=1): return {"v": 2 * x * sign}
def nothing(x): return {"v": float("nan")}
"""
ECHO = "#!/bin/sh\necho '{\"words\": '$#'}'\n"


@pytest.fixture
def project(site: Site) -> Path:
    folder = site.work / "p"
    folder.mkdir()
    (folder / "f.py").write_text(CODE)
    for name in ("a.sh", "b.sh"):
        (folder / name).write_text(ECHO)
        (folder / name).chmod(0o755)
    return folder


def sweep(site: Site, *argv: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    return site.cli("racksack", "sweep", *argv, code=code)


def run(site: Site, *argv: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    return sweep(site, "run", *argv, "--no-venv", "--yes", "--wait", code=code)


def listed(site: Site, *entries: object) -> Path:
    """A file of jobs."""
    path = site.work / "jobs.json"
    path.write_text(json.dumps(entries))
    return path


def test_a_list_of_jobs_that_names_its_programs_needs_no_other(site: Site, project: Path) -> None:
    jobs = listed(site, {"job_id": "one", "script": "a.sh", "args": ["x"]}, {"script": "b.sh", "args": "y 'z z'"})
    assert "2 points" in run(site, project, "--jobs", jobs, "--metric", "words").stdout
    rows = [line.split()[1:4] for line in sweep(site, "top", "last").stdout.splitlines()[1:]]
    assert rows == [["1", "1", "b.sh"], ["0", "one", "a.sh"]]


def test_programs_that_are_not_there_are_refused_each_time(site: Site, project: Path) -> None:
    run(site, project, "a.sh", "--jobs", listed(site, {"args": []}))
    for _ in range(2):  # the project is known to the controller by now
        said = run(site, project, "a.sh", "--jobs", listed(site, {"script": "c.sh"}), code=2).stderr
        assert "the script c.sh is not in the project" in said
    said = run(site, project, "--jobs", listed(site, {"script": "a.sh"}, {"job_id": "x"}), code=2).stderr
    assert said.startswith("--jobs: job x names no script; add one, or name the program")


def test_wishes_that_cannot_be_met_are_told_by_the_words_that_were_typed(site: Site, project: Path) -> None:
    said = run(site, project, "f.py:double", "-p", "x=1:3", "--ramdisk", "gone", code=2).stderr
    assert "there is no gone, which stage_in_ram (--ramdisk) names" in said
    said = run(site, project, "f.py:double", "-p", "x=1:3", "--grid", "--random", "2", code=2).stderr
    assert said.endswith("--grid stands for --search grid; give one search\n")
    said = run(site, project, "f.py:double", "-p", "x=1:3", "--search", "tpe", code=2).stderr
    assert said == "--search: tpe draws points; say how many, such as {kind: tpe, count: 500} (--count 500)\n"


def test_a_sweep_that_is_over(site: Site, project: Path) -> None:
    control = ("--control", "2", "--control-arg", "sign=-1")
    run(site, project, "f.py:double", "-p", "x=1:5", "--metric", "v", *control)
    line = sweep(site, "status").stdout.splitlines()[1].split()
    assert line[4:7] == ["5", "5", "0"], "the points of the sweep, not those of its control run"
    assert line[-3:] == ["control", "run", "2/2"]
    said = sweep(site, "stop", "last", code=5).stderr
    assert said.endswith(" is done; there is nothing to stop\n")
    said = sweep(site, "top", "last", "--by", "gain", code=2).stderr
    assert said.endswith(": gain is not known; there are point, seconds, v or x\n")
    gone = site.work / "gone"
    for name in ("all.csv", "all.json"):
        said = sweep(site, "export", "last", "-o", gone / name, code=1).stderr
        assert said == f"{gone / name} cannot be written: No such file or directory\n"
    sweep(site, "export", "last", "-o", site.work / "all.csv")
    assert [path.name for path in site.work.glob("*all*")] == ["all.csv"]
    assert len((site.work / "all.csv").read_text().splitlines()) == 6


def test_points_without_a_number(site: Site, project: Path) -> None:
    said = run(site, project, "f.py:nothing", "-p", "x=7", "--metric", "v")
    assert "1 point\n" in said.stdout
    assert "1 point, 1 worker; " in said.stderr
    assert sweep(site, "top", "last").stdout == "no point has a number for v so far\n"


def test_results_that_were_deleted_are_said_to_be(site: Site, project: Path) -> None:
    run(site, project, "f.py:double", "-p", "x=1:3", "--metric", "v", "--name", "brought")
    site.cli("fetch-results", "brought", "-o", "got", "--delete-after")
    again = site.cli("fetch-results", "brought", "-o", "got", code=3)
    assert "the controller's copy was deleted" in again.stderr
    assert "3 of 3 points" in sweep(site, "top", "brought").stderr
