"""Large files of a project that its jobs share: `--shared` and `.racksackdata`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from racksack.errors import ProjectError
from racksack.submission import receipt, sharing
from racksack.submission.project import select
from racksack_agent.supervisor import shared
from tests.end_to_end.site import Site, until

needs_programs = pytest.mark.skipif(
    shutil.which("rsync") is None or shutil.which("tmux") is None, reason="needs rsync and tmux"
)
BYTES = 24 << 20
READER = """\
import json, os, sys, time
seen = {}
for path in ("data/big.bin", "data/deep/small.txt", "one.bin"):
    seen[path] = [os.path.getsize(path), os.path.islink(path)]
    try:
        with open(path, "ab") as file:
            file.write(b"spoilt")
        seen[path].append("written")
    except OSError as error:
        seen[path].append(type(error).__name__)
try:
    open("data/new", "w").close()
    seen["new"] = "written"
except OSError as error:
    seen["new"] = type(error).__name__
open("notes.txt", "a").write("of the job")
print(json.dumps(seen), flush=True)
while len(sys.argv) > 1 and not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
"""


def make(root: Path) -> Path:
    (root / "data/deep").mkdir(parents=True)
    (root / "data/big.bin").write_bytes(os.urandom(BYTES))
    (root / "data/deep/small.txt").write_text("small")
    (root / "one.bin").write_bytes(b"1" * 1000)
    (root / "notes.txt").write_text("of the project")
    (root / "main.py").write_text(READER)
    return root


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site('web: {listen: "off"}\nnodes:\n  here: {local: {}, cpus: 12, ram: 24G}\n')
    try:
        made.start()
        yield made
    finally:
        made.close()


def seen(site: Site, job: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.cli("racksack", "logs", job).stdout)
    return found


def used_bytes(root: Path) -> int:
    """Of the disk, a file with several names once."""
    found: dict[int, int] = {}
    for path in root.rglob("*"):
        info = path.lstat()
        found[info.st_ino] = info.st_blocks * 512
    return sum(found.values())


@needs_programs
def test_twelve_jobs_use_the_disk_once_and_none_can_change_it(site: Site) -> None:
    project = make(site.work / "project")
    go = site.work / "go"
    jobs = [site.submit(project, "--shared", "data", "--shared", "*.bin", "--", go) for _ in range(12)]
    for job in jobs:
        until(lambda job=job: site.cli("racksack", "logs", job).stdout, f"job {job} has looked")  # type: ignore[misc]
    node = site.home / "node"
    assert used_bytes(node / "snapshots") + used_bytes(node / "attempts") <= 1.1 * BYTES
    refused = "OSError" if os.geteuid() == 0 else "PermissionError"
    for job in jobs:
        found = seen(site, job)
        assert found["data/big.bin"] == [BYTES, False, refused], "it lies in a folder that is a link"
        assert found["one.bin"] == [1000, True, refused]
        assert found["data/deep/small.txt"][2] == refused
        assert found["new"] == refused
    go.touch()
    for job in jobs:
        site.wait_for(job, "done")


@needs_programs
def test_marks_of_the_project_count_and_without_any_each_job_has_its_own(site: Site) -> None:
    project = make(site.work / "marked")
    (project / ".racksackdata").write_text("# what never changes\n/data/big.bin\n\n")
    job = site.submit(project)
    site.wait_for(job, "done")
    found = seen(site, job)
    assert found["data/big.bin"][1] is True
    assert found["one.bin"] == [1000, False, "written"]
    assert found["new"] == "written"
    (project / ".racksackdata").unlink()
    plain = site.submit(project)
    site.wait_for(plain, "done")
    assert seen(site, plain)["data/big.bin"] == [BYTES, False, "written"], "though other jobs' files are read-only"


def test_what_the_patterns_match_on_the_node(tmp_path: Path) -> None:
    make(tmp_path / "s")
    (tmp_path / "s/link").symlink_to("one.bin")

    def paths(*patterns: str, entrypoint: str = "main.py") -> set[str]:
        return shared.paths_of(str(tmp_path / "s"), patterns, entrypoint)

    assert paths() == set()
    assert paths("data/") == {"data"}
    assert paths("data", "data/big.bin", "**/*.txt") == {"data", "notes.txt"}
    assert paths("*") == {"data", "notes.txt", "one.bin"}, "neither the entrypoint nor links"
    assert paths("data", entrypoint="data/deep/run.py") == {"data/big.bin", "data/deep/small.txt"}
    assert paths(".") == {"data", "notes.txt", "one.bin"}


def test_the_receipt_says_what_each_job_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path / "project")
    monkeypatch.setattr(receipt, "BYTES_WARNED", 1 << 20)
    plain, patterns = sharing.marked(select(project), ())
    assert patterns == ()
    [warning] = receipt.warnings(plain)
    assert warning.startswith("each job copies 24.0M on its node; --shared data links that read-only")
    marked, patterns = sharing.marked(select(project), ("data",))
    assert patterns == ("data",)
    assert receipt.warnings(marked) == []
    assert "  shared, read-only: 2 files, 24.0M" in receipt.lines(marked)
    with pytest.raises(ProjectError, match="--shared nothing: nothing in"):
        sharing.marked(select(project), ("nothing",))
    (project / ".racksackdata").write_text("../elsewhere")
    with pytest.raises(ProjectError, match="leads out of the project"):
        sharing.marked(select(project), ())
