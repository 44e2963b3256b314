"""Uploads cost their owner: holes are not written out, sizes are limited, turns are fair, nothing is open meanwhile."""

import asyncio
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from racksack_controller.config.limits import Limits
from racksack_controller.intake import ingest
from racksack_controller.intake.copy_untrusted import Faults, copy_tree
from racksack_controller.intake.ingest import IngestError, examine, keep
from racksack_controller.intake.spool import prepare
from racksack_controller.intake.writable import others_may_write
from racksack_controller.turns import Turns
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import JobSpec

MIB = 1024**2
SPEC = JobSpec(name="x", project="up1", entrypoint="main.py")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: several users take part")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    found = Spool(tmp_path / "spool")
    prepare(found)
    return found


def project(spool: Spool, name: str = "up1") -> Path:
    folder = spool.incoming / name
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n")
    return folder


def test_holes_stay_holes_and_data_is_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(300 * MIB)
        file.write(b"middle")
        file.truncate(2000 * MIB)
    (source / "hole").touch()
    os.truncate(source / "hole", 500 * MIB)
    (source / "full").write_bytes(os.urandom(3 * MIB + 17))
    (source / "empty").touch()
    faults = Faults()
    copy_tree(source, target, os.geteuid(), faults)
    assert not faults
    assert (target / "full").read_bytes() == (source / "full").read_bytes()
    assert (target / "empty").stat().st_size == 0
    copied = target / "sparse"
    assert copied.stat().st_size == 2000 * MIB
    assert copied.stat().st_blocks * 512 < 20 * MIB, "the holes were not written out"
    assert (target / "hole").stat().st_blocks * 512 < MIB
    with copied.open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(300 * MIB)
        assert file.read(6) == b"middle"


def test_an_upload_has_a_size_and_a_number_of_files_at_most(spool: Spool) -> None:
    folder = project(spool)
    (folder / "hole").touch()
    os.truncate(folder / "hole", 1024**4)
    with pytest.raises(IngestError, match=r"larger than 100\.0G|larger than 100G"):
        examine(spool, SPEC, os.geteuid(), is_shared=False, limits=Limits())
    (folder / "hole").unlink()
    for number in range(20):
        (folder / str(number)).touch()
    with pytest.raises(IngestError, match="more than 10 files"):
        examine(spool, SPEC, os.geteuid(), is_shared=False, limits=Limits(upload_files=10))
    assert examine(spool, SPEC, os.geteuid(), is_shared=False, limits=Limits(upload_files=21)) is not None


def test_content_is_closed_to_others_from_the_first_moment(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    project(spool)
    content = examine(spool, SPEC, os.geteuid(), is_shared=False)
    assert content is not None
    modes: set[int] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for path in (content.source, spool.snapshots / content.digest):
                try:
                    modes.add(stat.S_IMODE(path.stat().st_mode))
                except FileNotFoundError:
                    continue

    content.source.chmod(0o700)
    looking = threading.Thread(target=look)
    looking.start()
    try:
        keep(spool, content)
    finally:
        ended.set()
        looking.join()
    assert stat.S_IMODE((spool.snapshots / content.digest).stat().st_mode) == 0o700
    assert modes <= {0o700}


async def test_one_user_has_one_turn_and_others_go_past() -> None:
    turns, at_once, most, order = Turns(4, 1), {"eve": 0, "ann": 0}, {"eve": 0, "ann": 0}, list[str]()
    gate = asyncio.Event()

    async def work(user: str) -> None:
        async with turns.of(user):
            at_once[user] += 1
            most[user] = max(most[user], at_once[user])
            if user == "eve":
                await gate.wait()
            order.append(user)
            at_once[user] -= 1

    tasks = [asyncio.create_task(work("eve")) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.wait_for(work("ann"), 30)
    assert order == ["ann"]
    tasks[3].cancel()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == {"eve": 1, "ann": 1}
    await asyncio.wait_for(asyncio.gather(work("eve"), work("ann")), 30)


@needs_root
@pytest.mark.parametrize(
    ("make", "is_open"),
    [
        ("chmod 600 f", False),
        ("chmod 644 f", False),
        ("chmod 666 f", True),
        ("chgrp users f && chmod 664 f", True),
        ("chgrp users f && chmod 644 f", False),
        ("chmod 600 f && setfacl -m u:daemon:rw f", True),
        ("chmod 600 f && setfacl -m u:daemon:r f", False),
        ("chmod 600 f && setfacl -m g:users:rw f", True),
        ("chmod 600 f && setfacl -m u:daemon:rw,m::r f", False),
        ("chmod 600 f && setfacl -m u:0:rw,g::---,m::rwx f", False),
    ],
)
def test_who_else_may_write_a_job_file(tmp_path: Path, make: str, is_open: bool) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    os.chown(path, 65534, 65534)
    subprocess.run(["sh", "-c", make], cwd=tmp_path, check=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert others_may_write(descriptor, os.fstat(descriptor)) is is_open
    finally:
        os.close(descriptor)


def test_hints_for_missing_files_look_at_few_names(spool: Spool) -> None:
    folder = project(spool)
    for number in range(ingest.KNOWN_MAX + 200):
        (folder / f"mian{number}.py").touch()
    with pytest.raises(IngestError, match="is not in the project"):
        examine(spool, JobSpec(name="x", project="up1", entrypoint="mainn.py"), os.geteuid(), is_shared=False)
