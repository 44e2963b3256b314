"""The agent's copy of the digest rule gives what jobspecs gives, and old content makes room."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from racksack_agent import digest as content
from racksack_agent.home import Home
from racksack_agent.problems import PrepareError
from racksack_agent.serve.snapshots import Snapshots
from racksack_agent.supervisor import copying
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.terminal_echo import Echo
from racksack_jobspecs.snapshot import digest_of, manifest_of
from tests.agent.processes import listed


def make_everything(root):
    (root / "a" / "b").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a" / "empty too").mkdir()
    (root / "a.txt").write_text("a")
    (root / "a" / "run.sh").write_text("#!/bin/sh\n")
    (root / "a" / "run.sh").chmod(0o755)
    (root / "a-b").write_bytes(bytes(range(256)) * 5000)
    (root / "a" / "b" / os.fsdecode(b"\xff\n name")).write_text("")
    (root / "a" / "link").symlink_to("../a.txt")
    (root / "dangling").symlink_to("nowhere")
    (root / "folder link").symlink_to("a")
    (root / "\u00fc").write_text("umlaut")


def test_both_rules_agree(tmp_path):
    make_everything(tmp_path)
    digest, size_bytes = content.digest_and_size(str(tmp_path))
    assert digest == digest_of(manifest_of(tmp_path))
    assert size_bytes == 1 + 10 + 256 * 5000 + 6


def test_both_rules_agree_on_nothing_and_refuse_pipes(tmp_path):
    assert content.digest_and_size(str(tmp_path))[0] == digest_of(manifest_of(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="device, socket or pipe"):
        content.digest_and_size(str(tmp_path))
    with pytest.raises(ValueError, match="device, socket or pipe"):
        digest_of(manifest_of(tmp_path))


@pytest.fixture
def snapshots(tmp_path):
    home = Home(str(tmp_path / "home"))
    home.make()
    return Snapshots(home), home


def add(home, snapshots, text, age_s):
    """Content of one file; returns its digest."""
    source = home.incoming + "/up"
    Path(source).mkdir()
    with open(source + "/x", "w", encoding="utf-8") as file:
        file.write(text)
    digest = content.digest_and_size(source)[0]
    snapshots.adopt(digest, "up")
    used_s = time.time() - age_s
    os.utime(snapshots.path(digest) + ".used", (used_s, used_s))
    return digest


def test_the_least_recently_used_goes_first(snapshots):
    snapshots, home = snapshots
    old, needed, recent = (
        add(home, snapshots, word * 1000, age) for word, age in (("a", 9000), ("b", 8000), ("c", 7000))
    )
    folder = home.attempt("1.1")
    Path(folder.path).mkdir(parents=True)
    with open(folder.launch, "w", encoding="utf-8") as file:
        file.write(f'{{"digest": "{needed}"}}')
    assert snapshots.prune(kept_bytes_max=2500) == [old]
    assert snapshots.prune(kept_bytes_max=0) == [recent], "what a living attempt needs stays"
    assert [snapshots.has(digest) for digest in (old, needed, recent)] == [False, True, False]
    assert sorted(listed(home.snapshots)) == [needed, needed + ".used", needed + ".verified"]


def test_what_just_came_is_not_pruned(snapshots):
    snapshots, home = snapshots
    digest = add(home, snapshots, "x" * 1000, 0)
    assert snapshots.prune(kept_bytes_max=0) == []
    assert snapshots.has(digest)


def test_large_files_are_copied_and_a_stop_is_heard_meanwhile(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(8):
        (source / f"{number}").write_bytes(os.urandom(400_000))
    (source / "0").chmod(0o755)
    copying.copy_tree(str(source), str(tmp_path / "copy"), StopRequest(os.devnull, Echo("", None)))
    for number in range(8):
        assert (tmp_path / f"copy/{number}").read_bytes() == (source / f"{number}").read_bytes()
    assert [os.access(tmp_path / f"copy/{number}", os.X_OK) for number in (0, 1)] == [True, False]
    stop = StopRequest(os.devnull, Echo("", None))
    stop.check = lambda: (_ for _ in ()).throw(PrepareError("stopped"))
    with pytest.raises(PrepareError, match="stopped"):
        copying.copy_large([(str(source / "1"), str(tmp_path / "late"))], stop)
