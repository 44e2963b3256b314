"""Data sets of an attempt, where the agent is an ordinary user and where it is not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from racksack_agent.home import Home
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.serve.snapshots import Snapshots
from racksack_agent.supervisor import data
from racksack_agent.verified import remove_read_only

DIGEST = "a" * 64


def content(home: Home) -> Path:
    folder = Path(home.snapshots) / DIGEST
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text("x")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "home"))
    for path in (home.snapshots, home.attempts, home.incoming):
        Path(path).mkdir(parents=True)
    return home


def test_everything_of_it_is_read_only(home: Home) -> None:
    folder = content(home)
    data.protect(str(folder))
    for path in (folder, folder / "sub", folder / "sub" / "file"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    data.protect(str(folder))


def test_it_is_pruned_all_the_same(home: Home) -> None:
    folder = content(home)
    data.protect(str(folder))
    (Path(home.snapshots) / f"{DIGEST}.used").write_text("1")
    assert Snapshots(home).prune(kept_bytes_max=0, young_s=-1) == [DIGEST]
    assert list(Path(home.incoming).iterdir()) == []
    remove_read_only(str(folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="as root it would also be mounted")
def test_links_are_made(home: Home) -> None:
    content(home)
    attempt = home.attempt("1.1")
    Path(attempt.work).mkdir(parents=True)
    data.provide(attempt, [{"name": "d", "digest": DIGEST, "source": "", "path": "in/d"}])
    assert (Path(attempt.work) / "in/d/sub/file").read_text() == "x"


def test_a_place_that_is_taken_or_leads_out_is_the_job_s_fault(home: Home) -> None:
    attempt = home.attempt("1.1")
    work = Path(attempt.work)
    work.mkdir(parents=True)
    (work / "taken").write_text("mine")
    (work / "out").symlink_to("/")
    link = attempt.data + "/d"
    for path in ("taken", "out/etc"):
        with pytest.raises(PrepareError):
            data._place(attempt.work, path, link, "d")
    assert (work / "taken").read_text() == "mine"
    (work / "empty").mkdir()
    data._place(attempt.work, "empty", link, "d")
    data._place(attempt.work, "empty", link, "d")  # prepared again
    assert str((work / "empty").readlink()) == link


def test_data_that_is_gone_is_the_node_s_fault(home: Home) -> None:
    with pytest.raises(NodeAtFaultError, match="is not at"):
        data.provide(home.attempt("1.1"), [{"name": "d", "digest": "", "source": "/no/such", "path": ""}])
