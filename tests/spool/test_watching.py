"""Every way in which a file can come to stand in the drop folder."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from racksack_controller.intake import watcher as module
from racksack_controller.intake.drop import leases_work
from racksack_controller.intake.names import Entry, in_turns
from racksack_controller.intake.spool import discard, prepare
from racksack_jobspecs.layout import Spool
from tests.spool.conftest import GOOD, PATIENCE_S, drop, needs_root, watching


async def test_a_renamed_file_is_taken_at_once(spool: Spool, tmp_path: Path) -> None:
    """Long before it could settle: the settle time here is an hour."""
    async with watching(spool, settle_s=3600) as watch:
        drop(spool.jobs / "inside.yaml", GOOD)
        file = await watch.find("inside.yaml")
        outside = tmp_path / "outside.yml"
        outside.write_text(GOOD)
        outside.rename(spool.jobs / "outside.yml")
        await watch.find("outside.yml")
    assert (file.owner_uid, file.text, file.problems) == (os.geteuid(), GOOD, ())
    assert file.checked().entrypoint == "main.py"


async def test_the_latency_of_a_rename(spool: Spool) -> None:
    """Printed with -s; the bound only says that events, not rescans, bring the files."""
    took_s = []
    async with watching(spool, settle_s=3600, rescan_s=3600) as watch:
        for number in range(50):
            name = f"j{number}.yaml"
            began = time.perf_counter()
            drop(spool.jobs / name, GOOD)
            discard(await watch.find(name))
            took_s.append(watch.at_s[name] - began)
    print(f"median {statistics.median(took_s) * 1000:.1f} ms, worst {max(took_s) * 1000:.1f} ms")
    assert statistics.median(took_s) < 1


async def test_a_file_that_is_written_slowly_is_read_whole(spool: Spool) -> None:
    async with watching(spool, settle_s=0.1) as watch:
        with open(spool.jobs / "slow.yaml", "w") as file:
            for line in (*GOOD.splitlines(keepends=True), "name: whole\n"):
                file.write(line)
                file.flush()
                await asyncio.sleep(0.25)  # longer than the settle time: only the open file says that more will come
        assert (await watch.find("slow.yaml")).checked().name == "whole"
    assert len(watch.named("slow.yaml")) == 1


async def test_a_file_that_is_written_in_two_goes_is_read_whole(spool: Spool) -> None:
    async with watching(spool, settle_s=1.0) as watch:
        path = spool.jobs / "twice.yaml"
        path.write_text(GOOD)
        await asyncio.sleep(0.2)
        with open(path, "a") as file:
            file.write("name: whole\n")
        assert (await watch.find("twice.yaml")).checked().name == "whole"
    assert len(watch.named("twice.yaml")) == 1


async def test_a_rename_of_a_file_still_open_waits_for_its_end(spool: Spool) -> None:
    async with watching(spool, settle_s=0.1) as watch:
        with open(spool.jobs / ".early.tmp", "w") as file:
            file.write("project: up1\n")
            file.flush()
            (spool.jobs / ".early.tmp").rename(spool.jobs / "early.yaml")
            await asyncio.sleep(0.5)
            assert watch.named("early.yaml") == []
            file.write("entrypoint: late.py\n")
        assert (await watch.find("early.yaml")).checked().entrypoint == "late.py"


async def test_scp_style_with_kept_times(spool: Spool) -> None:
    """The old time of the content must not make a file look settled while it is written."""
    async with watching(spool, settle_s=0.2) as watch:
        path = spool.jobs / "scp.yaml"
        with open(path, "w") as file:
            file.write("project: up1\n")
            file.flush()
            os.utime(path, (0, 0))
            await asyncio.sleep(0.5)
            file.write("entrypoint: kept.py\n")
        os.utime(path, (0, 0))
        assert (await watch.find("scp.yaml")).checked().entrypoint == "kept.py"


async def test_what_stood_there_before_the_start_is_found(spool: Spool) -> None:
    drop(spool.jobs / "before.yaml", GOOD)
    with open(spool.jobs / "open.yaml", "w") as file:
        file.write("project: up1\n")
        file.flush()
        os.utime(spool.jobs / "open.yaml", (0, 0))
        async with watching(spool, settle_s=0.1) as watch:
            await watch.find("before.yaml")
            await asyncio.sleep(0.4)
            assert watch.named("open.yaml") == []
            file.write("entrypoint: main.py\n")
            file.close()
            assert (await watch.find("open.yaml")).problems == ()


async def test_names_that_are_no_job_files_are_left_alone(spool: Spool) -> None:
    async with watching(spool, settle_s=0.05) as watch:
        for name in (".hidden.yaml", "x.yaml.tmp", "notes.txt", "yaml", ".yaml"):
            drop(spool.jobs / name, GOOD)
        drop(spool.jobs / "last.yml", GOOD)
        await watch.find("last.yml")
    assert {file.path.name for file in watch.files} == {"last.yml"}


async def test_without_events_the_rescans_find_everything(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_options: object) -> None:
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(module, "InotifyObserver", none)
    async with watching(spool, settle_s=0.2, rescan_s=0.2) as watch:
        drop(spool.jobs / "quiet.yaml", GOOD)
        await watch.find("quiet.yaml")
        with open(spool.jobs / "growing.yaml", "w") as file:
            for line in GOOD.splitlines(keepends=True):
                file.write(line)
                file.flush()
                await asyncio.sleep(0.6)
        assert (await watch.find("growing.yaml")).problems == ()


async def test_without_leases_the_end_of_writing_is_waited_for(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the files of other users, of which the kernel does not tell whether somebody writes them."""
    monkeypatch.setattr(module, "leases_work", lambda _folder: False)
    async with watching(spool, settle_s=0.1) as watch:
        with open(spool.jobs / "foreign.yaml", "w") as file:
            for line in GOOD.splitlines(keepends=True):
                file.write(line)
                file.flush()
                await asyncio.sleep(0.4)
        assert (await watch.find("foreign.yaml")).problems == ()


def test_this_file_system_tells_of_writers(spool: Spool) -> None:
    """The tests above rely on it; where it cannot, stillness decides."""
    assert leases_work(spool.jobs)
    assert list(spool.jobs.glob(".lease*")) == []


async def test_a_file_that_stays_comes_again_but_not_soon(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_FIRST_S", 1.0)
    async with watching(spool, settle_s=0.05, rescan_s=0.1) as watch:
        drop(spool.jobs / "stays.yaml", GOOD)
        began = time.monotonic()
        await watch.until(lambda: len(watch.named("stays.yaml")) == 2)
        assert time.monotonic() - began >= 0.9
        first, second = watch.named("stays.yaml")
    assert first.submission == second.submission


async def test_another_file_under_a_name_just_taken_is_another_job(spool: Spool) -> None:
    async with watching(spool, settle_s=0.05) as watch:
        seen = set()
        for number in range(20):
            drop(spool.jobs / "same.yaml", f"{GOOD}name: n{number}\n")
            await watch.until(lambda number=number: len(watch.named("same.yaml")) == number + 1)
            file = watch.named("same.yaml")[-1]
            assert file.checked().name == f"n{number}"
            seen.add(file.submission)
            if number % 2:
                discard(file)
    assert len(seen) == 20


async def test_the_same_content_dropped_again_is_another_job(spool: Spool, tmp_path: Path) -> None:
    """Copies that keep their time may get the inode that was just given back; they are jobs of their own."""
    template = tmp_path / "template.yaml"
    template.write_text(GOOD)
    os.utime(template, (1_700_000_000, 1_700_000_000))
    async with watching(spool, settle_s=0.05) as watch:
        for number in range(5):
            subprocess.run(["cp", "-p", str(template), str(spool.jobs / ".t")], check=True)
            (spool.jobs / ".t").rename(spool.jobs / "again.yaml")
            await watch.until(lambda number=number: len(watch.named("again.yaml")) == number + 1)
            discard(watch.named("again.yaml")[-1])
            await asyncio.sleep(0.02)  # more than the steps of the kernel's clock for files
    assert len({file.submission for file in watch.named("again.yaml")}) == 5


async def test_a_key_in_the_file_is_the_submission(spool: Spool) -> None:
    async with watching(spool) as watch:
        drop(spool.jobs / "keyed.yaml", f"{GOOD}submission: laptop-1\n")
        drop(spool.jobs / "broken.yaml", "submission: laptop-2\n")
        assert (await watch.find("keyed.yaml")).submission == "laptop-1"
        assert (await watch.find("broken.yaml")).submission == "laptop-2"


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


ODD = {
    "link.yaml": (lambda path: path.symlink_to("/etc/passwd"), "symbolic link"),
    "dangling.yaml": (lambda path: path.symlink_to("nowhere"), "symbolic link"),
    "folder.yaml": (lambda path: path.mkdir(), "a folder"),
    "pipe.yaml": (lambda path: os.mkfifo(path), "device, socket or pipe"),
    "socket.yaml": (make_socket, "device, socket or pipe"),
    "second.yaml": (lambda path: os.link(path.parent.parent / "controller.lock", path), "hard link"),
    "large.yaml": (lambda path: drop(path, b"x: y\n" * 2_000_000), "larger than 1024 KiB"),
    "latin.yaml": (lambda path: drop(path, b"name: \xe9\n"), "not UTF-8"),
    "nul.yaml": (lambda path: drop(path, b"\0" * 100), "control character"),
    "empty.yaml": (lambda path: drop(path, ""), "is empty"),
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_no_job_file_is_given_with_its_problem(spool: Spool, name: str) -> None:
    (spool.root / "controller.lock").touch()
    make, expected = ODD[name]
    async with watching(spool, settle_s=0.05, rescan_s=0.2) as watch:
        make(spool.jobs / name)
        file = await watch.find(name)
    assert expected in file.problems[0].sentence
    assert file.spec is None


async def test_a_name_that_is_not_utf_8(spool: Spool) -> None:
    name = os.fsdecode(b"caf\xe9.yaml")
    async with watching(spool, settle_s=0.05) as watch:
        drop(spool.jobs / name, GOOD)
        discard(await watch.find(name))
    assert list(spool.jobs.glob("*.yaml")) == []


async def test_a_file_that_vanishes_is_no_matter(spool: Spool) -> None:
    async with watching(spool, settle_s=0.3, rescan_s=0.1) as watch:
        for number in range(20):
            (spool.jobs / f"gone{number}.yaml").write_text(GOOD)
        for number in range(20):
            (spool.jobs / f"gone{number}.yaml").unlink()
        drop(spool.jobs / "stays.yaml", GOOD)
        await watch.find("stays.yaml")
        await asyncio.sleep(0.5)
    assert {file.path.name for file in watch.files} == {"stays.yaml"}


async def test_a_burst_is_given_out_whole_and_the_loop_stays_awake(spool: Spool) -> None:
    """5,000 files, a third of them bad. The bound on the loop's work at a stretch is wide; it is about 10 ms here."""
    names = [f"b{number:04d}.yaml" for number in range(5000)]
    worst_s = 0.0
    async with watching(spool, settle_s=0.2, rescan_s=1.0) as watch:

        async def measure() -> None:
            nonlocal worst_s
            while True:
                began = time.thread_time()  # this thread's own work, whatever else the machine does
                await asyncio.sleep(0.001)
                worst_s = max(worst_s, time.thread_time() - began)

        measuring = asyncio.create_task(measure())
        for number, name in enumerate(names):
            drop(spool.jobs / name, "cpus: [" if number % 3 == 0 else GOOD)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await watch.until(lambda: len(watch.files) == 5000, 60)
        measuring.cancel()
    print(f"longest stretch of work of the loop: {worst_s * 1000:.0f} ms")
    assert {file.path.name for file in watch.files} == set(names)
    assert worst_s < 1.0


def test_users_take_turns() -> None:
    due = [(f"a{number}", Entry(1, 0.0)) for number in range(100)] + [("b", Entry(2, 0.0)), ("c", Entry(3, 0.0))]
    assert [name for name, _ in in_turns(due, 5)] == ["a0", "b", "c", "a1", "a2"]


_WRITER = """
import os, sys, time
os.umask(0o022)
path = sys.argv[1]
if sys.argv[2] == "whole":
    with open(path + ".tmp", "w") as file:
        file.write("project: up1\\nentrypoint: main.py\\n")
    os.rename(path + ".tmp", path)
else:
    with open(path, "w") as file:
        file.write("project: up1\\n")
        file.flush()
        print("half", flush=True)
        sys.stdin.readline()
        file.write("entrypoint: main.py\\n")
"""


@needs_root
@pytest.mark.parametrize("whole", [True, False])
async def test_the_owner_is_whoever_wrote_the_file(open_folder: Path, whole: bool) -> None:
    """Also for other users: a shared spool, and a writer that is not the controller."""
    spool = Spool(open_folder / "spool")
    prepare(spool, "nogroup")
    path = spool.jobs / "theirs.yaml"
    async with watching(spool, settle_s=0.1) as watch:
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), "whole" if whole else "half"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
        )
        if not whole:
            await asyncio.to_thread(writer.stdout.readline)
            await asyncio.sleep(0.4)
            assert watch.named("theirs.yaml") == []
        await asyncio.to_thread(writer.communicate, b"go\n", PATIENCE_S)
        assert writer.returncode == 0
        file = await watch.find("theirs.yaml")
    assert (file.owner_uid, file.owner, file.problems) == (65534, "nobody", ())
