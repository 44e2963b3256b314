"""Connections that break while there is work: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from racksack_controller.nodes import rsync
from racksack_controller.nodes.errors import NodeUnreachable, TransferFailed
from racksack_controller.nodes.settings import NodeSettings
from racksack_jobspecs.snapshot import digest_of, manifest_of
from tests.nodes.conftest import Watched, bounded, order, project
from tests.nodes.sshd import USUAL, Sshd

Make = Callable[[NodeSettings], Watched]


async def test_a_job_that_ends_while_the_connection_is_cut(
    sshd: Sshd, make: Make, folder: Path, tmp_path: Path
) -> None:
    gate, witness = tmp_path / "gate", tmp_path / "witness"
    script = (
        f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
        f"open({str(witness)!r}, 'a').write('ran ')\nprint('end')\n"
    )
    digest = project(tmp_path / "project", script)
    watched = make(sshd.settings(folder / "home"))
    await watched.node.connect()
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("1.1", digest)])
    await watched.until(lambda: any(report.state == "running" for report in watched.told))
    sshd.stop()
    assert "r1" in await watched.broken()
    with pytest.raises(NodeUnreachable):
        await watched.node.connect()
    gate.touch()
    async with bounded():
        while not (folder / "home" / "attempts" / "1.1" / "exit.json").exists():
            await asyncio.sleep(0.01)
    sshd.start()
    hello = await watched.node.connect()
    assert [(report.attempt, report.state, report.outcome) for report in hello.reports] == [("1.1", "ended", "done")]
    [reply] = await watched.node.launch([order("1.1", digest)])  # the controller may not know that it had been taken
    assert reply.ok
    assert (await watched.node.collect({"1.1": tmp_path / "back"}))["1.1"].ok
    assert (tmp_path / "back" / "stdout.log").read_text() == "up\nend\n"
    assert witness.read_text() == "ran "
    assert len(watched.breaks) == 1


async def test_a_collection_that_is_cut_is_a_reply_and_resumes(
    sshd: Sshd, make: Make, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import os\nopen(os.environ['RACKSACK_RETURN_DIR'] + '/big', 'wb').write(os.urandom(8_000_000))\n"
    digest = project(tmp_path / "project", script)
    watched = make(sshd.settings(folder / "home"))
    await watched.node.connect()
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("1.1", digest)])
    await watched.ended("1.1")
    with monkeypatch.context() as slow:
        slow.setattr(rsync, "_COMMON", (*rsync._COMMON, "--bwlimit=2000"))
        collecting = asyncio.create_task(watched.node.collect({"1.1": tmp_path / "back"}))
        async with bounded():
            while not any(path.stat().st_size > 500_000 for path in (tmp_path / "back").glob(".big*")):
                await asyncio.sleep(0.01)
        sshd.stop()
        reply = (await collecting)["1.1"]
    assert not reply.ok
    assert reply.kind == "unreachable"
    assert "1.1" in str(reply.error)
    sshd.start()
    await watched.node.connect()
    assert (await watched.node.collect({"1.1": tmp_path / "back"}))["1.1"].ok
    there = folder / "home" / "attempts" / "1.1" / "out"
    assert manifest_of(there) == manifest_of(tmp_path / "back")


async def test_requests_without_a_connection_say_so(sshd: Sshd, make: Make, folder: Path, tmp_path: Path) -> None:
    watched = make(sshd.settings(folder / "home"))
    for request in (watched.node.stats(), watched.node.stage("0" * 64, tmp_path), watched.node.launch([])):
        with pytest.raises(NodeUnreachable, match="r1 is not connected"):
            await request
    assert (await watched.node.collect({"1.1": tmp_path / "back"}))["1.1"].kind == "unreachable"


async def test_a_node_can_be_connected_many_times_without_leaving_anything(
    sshd: Sshd, make: Make, folder: Path
) -> None:
    watched = make(sshd.settings(folder / "home"))
    for _ in range(5):
        await watched.node.connect()
        sshd.cut()
        async with bounded():
            while sshd.sessions():
                await asyncio.sleep(0.01)
    await watched.node.connect()
    await watched.node.stats()
    await watched.node.close()
    async with bounded():
        while sshd.sessions():
            await asyncio.sleep(0.01)
    assert len(list((folder / "home" / "agents").iterdir())) == 1


async def test_uv_is_pushed_to_a_node_that_has_none(make_sshd: Callable[..., Sshd], make: Make, folder: Path) -> None:
    sshd = make_sshd(path=path_without_uv(folder / "bin"))
    watched = make(sshd.settings(folder / "home"))
    hello = await watched.node.connect()
    assert hello.uv is None
    async with bounded():
        while not (folder / "home" / "bin" / "uv").exists():
            await asyncio.sleep(0.02)
    version = subprocess.run([folder / "home" / "bin" / "uv", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("uv ")
    assert (await watched.node.connect()).uv == str(folder / "home" / "bin" / "uv")
    os.truncate(folder / "home" / "bin" / "uv", 100_000)
    assert not (await watched.node.stats()).uv
    async with bounded():
        while not (await watched.node.stats()).uv:  # it is put there again, while the connection lasts
            await asyncio.sleep(0.05)


def path_without_uv(bin_folder: Path) -> str:
    """The usual programs, but no uv, wherever this machine has it."""
    bin_folder.mkdir()
    for place in USUAL.split(":"):
        for program in Path(place).glob("*"):
            link = bin_folder / program.name
            if program.name not in ("uv", "uvx") and not link.is_symlink():
                link.symlink_to(program)
    return str(bin_folder)


def many_files(root: Path, count: int) -> str:
    for number in range(count):
        path = root / f"{number % 100:02d}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content {number}\n")
    return project(root)


@pytest.mark.timeout(600)
async def test_a_project_of_many_small_files(sshd: Sshd, make: Make, folder: Path, tmp_path: Path) -> None:
    """5,000 files by default; RACKSACK_TEST_FILES=50000 for the size that users report."""
    count = int(os.environ.get("RACKSACK_TEST_FILES", "5000"))
    digest = many_files(tmp_path / "project", count)
    watched = make(sshd.settings(folder / "home"))
    await watched.node.connect()
    async with bounded(20 + count / 100):
        await watched.node.stage(digest, tmp_path / "project")
        await watched.node.launch([order("1.1", digest, outputs=("*/*.txt",))])
        [report] = await watched.ended("1.1")
        assert report.outcome == "done", report
        reply = (await watched.node.collect({"1.1": tmp_path / "back"}))["1.1"]
    assert reply.ok, reply
    assert reply.files >= count
    assert (tmp_path / "back" / "07" / "file7.txt").read_text() == "content 7\n"


async def test_content_that_is_nearly_known_moves_only_its_difference(
    sshd: Sshd, make: Make, folder: Path, tmp_path: Path
) -> None:
    first = project(tmp_path / "one", data=os.urandom(5_000_000))
    shutil.copytree(tmp_path / "one", tmp_path / "two", symlinks=True)
    second = project(tmp_path / "two", "print('changed')\n")
    watched = make(sshd.settings(folder / "home"))
    await watched.node.connect()
    await watched.node.stage(first, tmp_path / "one")
    await watched.node.stage(second, tmp_path / "two")
    snapshots = folder / "home" / "snapshots"
    assert digest_of(manifest_of(snapshots / second)) == second
    assert (snapshots / first / "data").stat().st_ino == (snapshots / second / "data").stat().st_ino


async def test_rubbish_from_an_earlier_try_is_replaced(sshd: Sshd, make: Make, folder: Path, tmp_path: Path) -> None:
    """What lies in incoming/ has the right size and time, and the wrong bytes."""
    digest = project(tmp_path / "project", data=os.urandom(1_000_000))
    watched = make(sshd.settings(folder / "home"))
    await watched.node.connect()
    rubbish = folder / "home" / "incoming" / digest
    shutil.copytree(tmp_path / "project", rubbish)
    (rubbish / "data").write_bytes(bytes(1_000_000))
    shutil.copystat(tmp_path / "project" / "data", rubbish / "data")
    (rubbish / "stale").write_text("left over")
    await watched.node.stage(digest, tmp_path / "project")
    assert digest_of(manifest_of(folder / "home" / "snapshots" / digest)) == digest


async def test_a_full_disk_on_the_node_is_named(sshd: Sshd, make: Make, folder: Path, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    home = folder / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(home)], check=True)
    try:
        watched = make(sshd.settings(home))
        await watched.node.connect()
        digest = project(tmp_path / "project", data=os.urandom(20_000_000))
        with pytest.raises(TransferFailed, match="the disk of r1 is full") as caught:
            await watched.node.stage(digest, tmp_path / "project")
        assert caught.value.kind == "disk_full"
        await watched.node.stats()
        await watched.node.close()
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)
