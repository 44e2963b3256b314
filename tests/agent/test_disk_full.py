"""A node whose disk is full: a clear outcome, an exit record all the same, and nothing stuck."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.agent.conftest import end_everything
from tests.agent.processes import listed, wait_until
from tests.agent.serving import Serve, order

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small file system")


@pytest.fixture
def small_home(tmp_path):
    """A home on a file system of 8 MB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    try:
        yield place / "home"
        fill(place, 0)
        end_everything(place / "home")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place, leave_bytes):
    """Take all space but some; the second call with 0 gives it back."""
    ballast = place / "ballast"
    ballast.unlink(missing_ok=True)
    space = os.statvfs(place)
    if leave_bytes:
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - leave_bytes)


def test_a_job_that_fills_the_disk_ends_with_a_record(small_home, project):
    serve = Serve(small_home)
    script = "#!/bin/sh\ncat /dev/zero > $RACKSACK_RETURN_DIR/big\nexit 7\n"
    report = serve.run(order("1.1", serve.project(project(job__sh=script)), "job.sh"))
    assert (report["outcome"], report["exit_code"], report["at_fault"]) == ("failed", 7, "job")
    assert "the node's disk is full of its own files" in report["reason"]
    assert (small_home / "attempts/1.1/exit.json").exists()
    serve.call("remove", attempts=["1.1"])
    assert serve.run(order("2.1", serve.project(project(ok__sh="#!/bin/sh\n")), "ok.sh"))["outcome"] == "done"
    serve.close()


def test_a_job_that_finds_the_disk_full_is_lost_by_the_nodes_fault(small_home, project):
    """Somebody else has filled it: another node may have room."""
    serve = Serve(small_home)
    script = "#!/bin/sh\necho up\nuntil [ -e $RACKSACK_TMP/go ]; do sleep 0.05; done\nhead -c 300000 /dev/zero > out\n"
    serve.launch(order("1.1", serve.project(project(job__sh=script)), "job.sh"))
    serve.running("1.1")
    (small_home / "attempts/1.1/tmp/go").touch()
    fill(small_home.parent, 4096)
    report = serve.ended("1.1")
    assert (report["outcome"], report["at_fault"]) == ("lost", "node")
    assert report["reason"].endswith("; the node's disk is full")
    serve.close()


def test_outputs_come_back_although_nothing_more_can_be_written(small_home, project):
    """They are moved, which needs no space."""
    serve = Serve(small_home)
    script = "#!/bin/sh\nhead -c 5000000 /dev/zero > out.bin\ncat /dev/zero > $RACKSACK_TMP/rest\n"
    report = serve.run(order("1.1", serve.project(project(job__sh=script)), "job.sh", outputs=["*.bin"]))
    assert (report["outcome"], report["output_files"]) == ("failed", 3)
    assert (small_home / "attempts/1.1/out/out.bin").stat().st_size == 5000000
    serve.close()


def test_a_project_that_does_not_fit(small_home, project):
    serve = Serve(small_home)
    folder = project(job__sh="#!/bin/sh\n")
    (folder / "data").write_bytes(b"x" * 3_000_000)
    digest = serve.project(folder)
    fill(small_home.parent, 2_000_000)
    report = serve.run(order("1.1", digest, "job.sh"))
    assert report["outcome"] == "prepare_failed"
    assert report["reason"] == "the node's disk was full while the attempt was prepared"
    serve.close()


def test_a_launch_for_which_there_is_no_space(small_home, project):
    serve = Serve(small_home)
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    fill(small_home.parent, 4096)
    reply = serve.call("launch", orders=[order("1.1", digest, "job.sh")])[0]
    assert (reply["ok"], reply["kind"], reply["error"]) == (False, "disk_full", "the node's disk is full")
    assert listed(small_home / "attempts") == []
    fill(small_home.parent, 0)
    assert serve.run(order("1.1", digest, "job.sh"))["outcome"] == "done"
    serve.close()


def test_a_stop_is_heard_on_a_full_disk(small_home, project):
    serve = Serve(small_home)
    digest = serve.project(project(job__sh="#!/bin/sh\nhead -c 20000000 /dev/zero > fill\nsleep 600\n"))
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    wait_until(lambda: os.statvfs(small_home).f_bavail == 0)
    for grace_s in (600, 1):
        serve.call("stop", attempt="1.1", reason="cancelled", grace_s=grace_s)
    assert serve.ended("1.1")["outcome"] == "cancelled"
    serve.close()
