"""What every node promises, whatever the way to it: one suite for the machine itself, over SSH, and through a jump."""

# ruff: noqa: PTH112, PTH115, PTH116, PTH118, PTH202

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from racksack_controller.nodes.errors import AgentError, NodeUnreachable, TransferFailed
from racksack_controller.nodes.settings import NodeSettings
from racksack_jobspecs.snapshot import digest_of, manifest_of
from tests.nodes.conftest import Watched, bounded, every_way, order, project

WRITE_OUTPUTS = """
import os, pathlib, sys
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
print("first line", flush=True)
(out / "result.txt").write_text(" ".join(sys.argv[1:]))
"""


async def run(watched: Watched, source: Path, digest: str, attempt: str = "1.1", *args: str) -> None:
    await watched.node.stage(digest, source)
    [reply] = await watched.node.launch([order(attempt, digest, *args)])
    assert reply.ok, reply.error
    [report] = await watched.ended(attempt)
    assert report.outcome == "done", report


@every_way
async def test_hello_and_probe_describe_the_machine(watched: Watched) -> None:
    hello = await watched.node.connect()  # a second time: a fresh agent, nothing lost
    assert hello.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert hello.session in ("tmux", "screen")
    inventory = await watched.node.probe()
    assert 1 <= inventory.cpus <= (os.cpu_count() or 1)
    assert inventory.ram_bytes > 2**20
    assert inventory.disk_bytes > 2**20
    stats = await watched.node.stats()
    assert stats.disk_free_bytes > 0
    assert watched.breaks == []


@every_way
async def test_a_job_runs_and_its_folder_comes_back(watched: Watched, tmp_path: Path) -> None:
    digest = project(tmp_path / "project", WRITE_OUTPUTS)
    await run(watched, tmp_path / "project", digest, "1.1", "a b", "$(x)", "'")
    replies = await watched.node.collect({"1.1": tmp_path / "back"})
    assert replies["1.1"].ok, replies
    assert (tmp_path / "back" / "stdout.log").read_text() == "first line\n"
    assert (tmp_path / "back" / "result.txt").read_text() == "a b $(x) '"
    assert replies["1.1"].files == len([path for path in (tmp_path / "back").rglob("*") if path.is_file()])
    chunk = await watched.node.tail("1.1", "stdout", 6, 3)
    assert chunk.data == b"lin"
    await watched.node.remove(["1.1"])
    await watched.node.remove(["1.1"])
    assert await watched.node.reports() == []
    assert (await watched.node.collect({"1.1": tmp_path / "again"}))["1.1"].kind == "gone"


async def test_launching_twice_runs_once(watched: Watched, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    digest = project(tmp_path / "project", f"open({str(witness)!r}, 'a').write('ran\\n')\n")
    await watched.node.stage(digest, tmp_path / "project")
    for _ in range(2):
        [reply] = await watched.node.launch([order("5.1", digest)])
        assert reply.ok, reply.error
    await watched.ended("5.1")
    await watched.node.launch([order("5.1", digest)])
    await watched.node.reports()
    assert witness.read_text() == "ran\n"


@every_way
async def test_a_stop_ends_the_job_and_may_come_twice(watched: Watched, tmp_path: Path) -> None:
    digest = project(tmp_path / "project", "import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("2.1", digest)])
    await watched.until(lambda: any(report.state == "running" for report in watched.told))
    with pytest.raises(AgentError, match=r"2\.1"):
        await watched.node.remove(["2.1"])
    await watched.node.stop("2.1", "cancelled", 1.0)
    await watched.node.stop("2.1", "cancelled", 1.0)
    [report] = await watched.ended("2.1")
    assert report.outcome == "cancelled"
    await watched.node.stop("2.1", "cancelled", 1.0)


async def test_an_order_without_its_content_is_refused_and_staging_mends_it(watched: Watched, tmp_path: Path) -> None:
    digest = project(tmp_path / "project")
    [reply] = await watched.node.launch([order("3.1", digest)])
    assert not reply.ok
    assert reply.error
    await run(watched, tmp_path / "project", digest, "3.2")


async def test_pruned_content_is_staged_again_after_a_failed_launch(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project")
    await watched.node.stage(digest, tmp_path / "project")
    snapshots = Path(str(settings.home)) / "snapshots"
    (snapshots / digest).rename(snapshots / "elsewhere")
    [reply] = await watched.node.launch([order("3.1", digest)])
    assert not reply.ok
    await run(watched, tmp_path / "project", digest, "3.2")


@every_way
@pytest.mark.parametrize("size", [10, 3_000_000], ids=["inline", "bulk"])
async def test_content_arrives_exactly(watched: Watched, settings: NodeSettings, tmp_path: Path, size: int) -> None:
    source = tmp_path / "project"
    (source / "empty").mkdir(parents=True)
    (source / "tool").mkdir()
    (source / "tool" / "run.sh").write_text("#!/bin/sh\n")
    (source / "tool" / "run.sh").chmod(0o555)
    (source / "latest").symlink_to("tool/run.sh")
    (source / "data").write_bytes(os.urandom(size))
    Path(os.fsdecode(os.path.join(os.fsencode(source), b"caf\xe9 \n'\"$(touch x);*"))).write_bytes(b"odd")
    (source / "tool").chmod(0o555)
    digest = project(source)
    await watched.node.stage(digest, source)
    there = Path(str(settings.home)) / "snapshots" / digest
    assert digest_of(manifest_of(there)) == digest
    assert (there / "empty").is_dir()
    (source / "tool").chmod(0o755)


@every_way
async def test_a_transfer_is_measured_and_the_next_connection_knows_what_is_there(
    watched: Watched, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project", big=os.urandom(1_000_000))
    sent = await watched.node.stage(digest, tmp_path / "project")
    assert sent is not None
    assert sent.size_bytes > 1_000_000
    assert sent.seconds > 0
    assert await watched.node.stage(digest, tmp_path / "project") is None
    assert digest in (await watched.node.connect()).contents


async def test_many_stages_of_one_content_share_one_transfer(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project", data=os.urandom(2_000_000))
    async with bounded():
        await asyncio.gather(*(watched.node.stage(digest, tmp_path / "project") for _ in range(50)))
    assert [path.name for path in (Path(str(settings.home)) / "snapshots").iterdir() if path.is_dir()] == [digest]
    assert [path.name for path in (Path(str(settings.home)) / "incoming").iterdir() if path.is_dir()] == []


async def test_content_that_is_not_what_it_says_is_refused(watched: Watched, tmp_path: Path) -> None:
    project(tmp_path / "small")
    project(tmp_path / "large", data=os.urandom(1_000_000))
    for name in ("small", "large"):
        with pytest.raises(AgentError, match="digest"):
            await watched.node.stage("0" * 64, tmp_path / name)


async def test_a_snapshot_that_is_not_there_is_an_error(watched: Watched, tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="submit the job again") as caught:
        await watched.node.stage("1" * 64, tmp_path / "nothing")
    assert caught.value.kind == "missing"


ODD_OUTPUTS = """
import os
out = os.fsencode(os.environ["RACKSACK_RETURN_DIR"]) + b"/"
os.makedirs(out + b"deep/empty")
for name in (b"caf\\xe9", b"new\\nline", b"quote'\\"$(touch x)", b"-rf", b"deep/x"):
    open(out + name, "wb").write(b"x" * %d)
os.symlink("deep/x", out + b"inside")
os.symlink("../deep/x", out + b"deep/also")
os.symlink("/etc/hostname", out + b"absolute")
os.symlink("../../../secret", out + b"up")
os.mkfifo(out + b"pipe")
os.link(out + b"deep/x", out + b"twin")
open(out + b"run", "w").close(); os.chmod(out + b"run", 0o755)
open(out + b"closed", "w").close(); os.chmod(out + b"closed", 0)
"""


@pytest.mark.parametrize("size", [3, 300_000], ids=["inline", "bulk"])
async def test_odd_outputs_come_back_whole_and_safe(watched: Watched, tmp_path: Path, size: int) -> None:
    digest = project(tmp_path / "project", ODD_OUTPUTS % size)
    await run(watched, tmp_path / "project", digest, "9.1")
    reply = (await watched.node.collect({"9.1": tmp_path / "back"}))["9.1"]
    assert reply.ok, reply
    back = os.fsencode(tmp_path / "back") + b"/"
    for name in (b"caf\xe9", b"new\nline", b"quote'\"$(touch x)", b"-rf", b"deep/x", b"twin"):
        assert os.path.getsize(back + name) == size
        assert os.stat(back + name).st_nlink <= 2
    assert os.readlink(back + b"inside") == b"deep/x"
    assert os.readlink(back + b"deep/also") == b"../deep/x"
    assert os.path.isdir(back + b"deep/empty")
    for name in (b"absolute", b"up", b"pipe"):
        assert not os.path.lexists(back + name)
    assert os.access(back + b"run", os.X_OK)
    assert os.stat(back + b"closed").st_mode & 0o400
    # What was left out is named, by the node (a device never enters out/) or here.
    [report] = await watched.ended("9.1")
    said = " ".join((*reply.notes, *report.dropped))
    assert "absolute" in said
    assert "up" in said
    assert "pipe" in said


async def test_many_attempts_are_launched_and_collected_in_one_go(watched: Watched, tmp_path: Path) -> None:
    digest = project(tmp_path / "project", WRITE_OUTPUTS)
    await watched.node.stage(digest, tmp_path / "project")
    attempts = [f"{number}.1" for number in range(1, 21)]
    replies = await watched.node.launch([order(attempt, digest, attempt) for attempt in attempts])
    assert [reply.attempt for reply in replies] == attempts
    assert all(reply.ok for reply in replies)
    await watched.ended(*attempts)
    targets = {attempt: tmp_path / "back" / attempt for attempt in attempts}
    collected = await watched.node.collect(targets | {"999.1": tmp_path / "back" / "999.1"})
    assert collected.pop("999.1").kind == "gone"
    assert all(reply.ok for reply in collected.values()), collected
    for attempt, target in targets.items():
        assert (target / "result.txt").read_text() == attempt
    await watched.node.remove(attempts)
    assert await watched.node.reports() == []


async def test_a_missing_return_folder_does_not_hold_up_the_others(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project", WRITE_OUTPUTS)
    for attempt in ("1.1", "2.1", "3.1"):
        await run(watched, tmp_path / "project", digest, attempt)
    attempts = Path(str(settings.home)) / "attempts"
    (attempts / "2.1" / "out" / "result.txt").write_text("changed after it was reported")
    replies = await watched.node.collect({name: tmp_path / name for name in ("1.1", "2.1", "3.1")})
    assert replies["1.1"].ok
    assert replies["3.1"].ok
    assert not replies["2.1"].ok
    assert replies["2.1"].kind == "damaged"
    assert "2.1" in str(replies["2.1"].error)


async def test_collecting_again_into_the_same_folder_is_the_same(watched: Watched, tmp_path: Path) -> None:
    digest = project(tmp_path / "project", ODD_OUTPUTS % 300_000)
    await run(watched, tmp_path / "project", digest, "4.1")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "stale").write_text("from a collection that broke off")
    first = (await watched.node.collect({"4.1": tmp_path / "back"}))["4.1"]
    manifest = manifest_of(tmp_path / "back")
    second = (await watched.node.collect({"4.1": tmp_path / "back"}))["4.1"]
    assert first.ok
    assert second.ok
    assert (first.files, first.bytes) == (second.files, second.bytes)
    assert manifest_of(tmp_path / "back") == manifest
    assert not (tmp_path / "back" / "stale").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("size", [50_000, 5_000_000], ids=["inline", "bulk"])
async def test_a_full_disk_here_is_named_and_leaves_the_results_there(
    watched: Watched, settings: NodeSettings, tmp_path: Path, size: int
) -> None:
    script = f"import os\nopen(os.environ['RACKSACK_RETURN_DIR'] + '/big', 'wb').write(b'x' * {size})\n"
    digest = project(tmp_path / "project", script)
    await run(watched, tmp_path / "project", digest, "6.1")
    small = tmp_path / "small"
    small.mkdir()
    mount = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(small))
    assert await mount.wait() == 0
    try:
        reply = (await watched.node.collect({"6.1": small / "back"}))["6.1"]
    finally:
        assert await (await asyncio.create_subprocess_exec("umount", str(small))).wait() == 0
    assert reply.kind == "disk_full", reply
    assert "space" in str(reply.error)
    reply = (await watched.node.collect({"6.1": tmp_path / "back"}))["6.1"]
    assert reply.ok
    assert (tmp_path / "back" / "big").stat().st_size == size


async def test_closing_leaves_jobs_alone_and_connecting_finds_them(
    watched: Watched, settings: NodeSettings, make: Callable[[NodeSettings], Watched], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
    digest = project(tmp_path / "project", script)
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("7.1", digest), order("8.1", digest)])
    await watched.until(lambda: sum(report.state == "running" for report in watched.told) == 2)
    await watched.node.close()
    assert watched.breaks == []
    with pytest.raises(NodeUnreachable):
        await watched.node.stats()
    gate.touch()
    other = make(settings)
    hello = await other.node.connect()
    assert {report.attempt for report in hello.reports} == {"7.1", "8.1"}
    async with bounded():
        while any(report.state != "ended" for report in await other.node.reports()):
            await asyncio.sleep(0.02)
    assert {report.outcome for report in await other.node.reports()} == {"done"}


async def test_an_agent_that_dies_is_told_once_and_jobs_go_on(
    watched: Watched, settings: NodeSettings, tmp_path: Path
) -> None:
    digest = project(tmp_path / "project", "import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    await watched.node.stage(digest, tmp_path / "project")
    await watched.node.launch([order("1.1", digest)])
    await watched.until(lambda: any(report.state == "running" for report in watched.told))
    for pid in serving(Path(str(settings.home))):
        os.kill(pid, 9)
    assert "r1" in await watched.broken()
    with pytest.raises(NodeUnreachable):
        await watched.node.stats()
    hello = await watched.node.connect()
    assert [report.state for report in hello.reports] == ["running"]
    assert len(watched.breaks) == 1


@every_way
async def test_an_agent_that_hangs_is_given_up(
    watched: Watched, settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pid] = serving(Path(str(settings.home)))
    os.kill(pid, 19)
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr("racksack_controller.nodes.agent_node.SHORT_TIMEOUT_S", 0.5)
            with pytest.raises(NodeUnreachable, match="did not answer 'stats'"):
                await watched.node.stats()
        assert "did not answer" in await watched.broken()
    finally:
        os.kill(pid, 9)
    await watched.node.connect()
    await watched.node.stats()


def serving(home: Path) -> list[int]:
    """The processes that answer the controller for this home: each holds its pipe open."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _title(entry) == [b"racksack-agent", b"serve"] and _holds(entry, f"{home}/run/")
    ]


def _title(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")[:2]
    except OSError:
        return []


def _holds(process: Path, folder: str) -> bool:
    try:
        return any(os.readlink(file).startswith(folder) for file in (process / "fd").iterdir())
    except OSError:
        return False


async def test_the_agent_sees_nothing_of_the_controllers_environment(
    settings: NodeSettings, make: Callable[[NodeSettings], Watched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLLER_SECRET", "do not tell")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    watched = make(settings)
    await watched.node.connect()
    digest = project(tmp_path / "project", "import os\nprint(sorted(os.environ))\n")
    await run(watched, tmp_path / "project", digest, "1.1")
    said = (await watched.node.tail("1.1", "stdout", 0, 65536)).data
    assert b"PATH" in said
    assert b"CONTROLLER_SECRET" not in said
    assert b"PYTHONPATH" not in said
    assert sys.version_info >= (3, 11)
