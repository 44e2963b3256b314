"""Checkpoints come from nodes whole, over each way, and go to the next attempt."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from racksack_controller.nodes.errors import AgentError, TransferFailed
from racksack_controller.nodes.node import CheckpointOrder
from racksack_controller.nodes.settings import NodeSettings
from racksack_jobspecs.snapshot import digest_of, manifest_of
from tests.nodes.conftest import Watched, order, project

SAVER = """
import os, sys, time
place = os.environ["RACKSACK_CHECKPOINT_DIR"]
if os.path.exists(place + "/state"):
    print("found", open(place + "/state").read(), os.environ["RACKSACK_RESUMED"])
    sys.exit()
open(place + "/same", "w").write("s" * 100_000)
os.symlink("state", place + "/latest")
number = 0
while True:
    number += 1
    with open(place + "/new", "w") as file:
        file.write("step" * number)  # another size each time: by time rsync tells seconds apart
    os.rename(place + "/new", place + "/state")
    time.sleep(0.3)
"""


def saves(every_s: float = 0.2, digest: str = "") -> CheckpointOrder:
    return CheckpointOrder(("ckpt",), every_s, digest)


async def test_a_checkpoint_comes_while_the_job_runs_and_the_next_attempt_finds_it(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project", SAVER)
    await watched.node.stage(digest, tmp_path / "project")
    with pytest.raises(AgentError, match=r"1\.1"):
        await watched.node.pull_checkpoint("1.1", tmp_path / "none")
    [reply] = await watched.node.launch([order("1.1", digest, checkpoint=saves())])
    assert reply.ok, reply.error

    def numbers() -> set[int]:
        return {report.checkpoint.number for report in watched.told if report.checkpoint is not None}

    await watched.until(lambda: bool(numbers()))
    first = await watched.node.pull_checkpoint("1.1", tmp_path / "first")
    assert digest_of(manifest_of(tmp_path / "first")) == first.digest
    await watched.until(lambda: max(numbers()) > first.number)
    second = await watched.node.pull_checkpoint("1.1", tmp_path / "second", [tmp_path / "first"])
    assert digest_of(manifest_of(tmp_path / "second")) == second.digest != first.digest
    if "ssh" in type(settings).__name__.lower():
        assert (tmp_path / "second/ckpt/same").samefile(tmp_path / "first/ckpt/same"), "it was not sent again"
    assert (tmp_path / "second/ckpt/latest").readlink() == Path("state")

    await watched.node.stop("1.1", "cancelled", 1.0)
    await watched.ended("1.1")
    await watched.node.stage(second.digest, tmp_path / "second")
    [reply] = await watched.node.launch([order("1.2", digest, checkpoint=saves(digest=second.digest))])
    assert reply.ok, reply.error
    await watched.ended("1.2")
    text = (tmp_path / "second/ckpt/state").read_text()
    assert (await watched.node.tail("1.2", "stdout", 0, 100)).data.decode() == f"found {text} 1\n"


async def test_what_was_damaged_on_the_node_is_not_taken(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project", SAVER)
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("1.1", digest, checkpoint=saves(every_s=0.1))])
    await watched.until(lambda: any(report.checkpoint is not None for report in watched.told))
    await watched.node.stop("1.1", "cancelled", 0.0, "KILL")
    await watched.ended("1.1")
    folder = Path(str(settings.home)) / "attempts/1.1/checkpoints"
    [newest] = sorted(folder.glob("[0-9]*/ckpt/same"), key=lambda path: int(path.parts[-3]))[-1:]
    newest.unlink()
    newest.write_text("t" * 100_000)
    with pytest.raises(TransferFailed, match="damaged"):
        await watched.node.pull_checkpoint("1.1", tmp_path / "target")


async def test_a_job_without_its_checkpoint_there_is_refused(watched: Watched, tmp_path: Path) -> None:
    digest = project(tmp_path / "project", SAVER)
    await watched.node.stage(digest, tmp_path / "project")
    [reply] = await watched.node.launch([order("1.1", digest, checkpoint=saves(digest="0" * 64))])
    assert (reply.ok, reply.kind) == (False, "no_snapshot")


def test_an_order_says_all_of_it() -> None:
    plain = msgspec.to_builtins(order("1.1", "0" * 64, checkpoint=saves()))
    assert plain["checkpoint"] == {"paths": ("ckpt",), "every_s": 0.2, "digest": "", "resubmit_on": (), "saves": True}
