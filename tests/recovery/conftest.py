"""A spool with jobs in every state, made once by a real controller, and copies of it for each test."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from racksack_controller.app import App
from racksack_controller.core.records import Job
from racksack_controller.recovery import backup, fsck, sources
from racksack_controller.recovery.contents import Manifest
from racksack_controller.recovery.faults import Fault
from racksack_controller.recovery.restore import Restored, put_back
from racksack_controller.recovery.sinks import FolderSink, TarSink
from racksack_jobspecs.layout import Spool
from tests.attacks.controllers import config_of, drop, running, until, upload

PROGRAM = """\
import os, sys
print("hello", sys.argv)
with open(os.environ["RACKSACK_RETURN_DIR"] + "/out.txt", "w") as file:
    file.write("result of " + os.environ["RACKSACK_JOB_ID"])
sys.exit(3 if "fail" in sys.argv else 0)
"""
JOB = "project: {project}\nentrypoint: main.py\nenvironment: none\ncpus: 1\nram: 50M\nname: {name}\n"
SWEEP = "sweep:\n  params: {a: [1, 2, 3]}\n  metric: x\n"
DONE, ARRAY, FAILED, HELD, WAITING = "done", "array", "failed", "held", "waiting"


def jobs_in(spool: Spool) -> dict[str, list[Job]]:
    """All jobs of a store, by name, in the order of their ids."""
    found: dict[str, list[Job]] = {}
    with closing(sqlite3.connect(spool.database)) as connection:
        for (record,) in connection.execute("SELECT record FROM jobs ORDER BY id"):
            job = msgspec.json.decode(record, type=Job)
            found.setdefault(job.spec.name, []).append(job)
    return found


async def fill(app: App) -> None:
    """Jobs that are done, failed, held, behind a held one, an array, and a held sweep."""
    project = upload(app.spool, "up1", PROGRAM)
    more = {
        DONE: "",
        ARRAY: "array: 0-3\n",
        FAILED: "args: [fail]\n",
        HELD: "hold: true\nenv: {KEY: secret}\npriority: 7\n",
        WAITING: "after: held\n",
        "sweep": "hold: true\n" + SWEEP,
    }
    for name, lines in more.items():  # one after another, so that each has its number
        drop(app.spool, name, JOB.format(project=project, name=name) + lines)
        await until(lambda name=name: not (app.spool.jobs / f"{name}.yaml").exists(), f"{name} is taken")  # type: ignore[misc]
    await until(lambda: len(app.state.jobs) == 2 and bool(app.sweeps.unfinished_of("root")), "all that end have ended")
    await until(lambda: len(list(app.spool.returns.glob("[0-9]*"))) == 6, "their results are there")


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The folder of a controller that was stopped."""
    path = Path(tempfile.mkdtemp(prefix="rs-rec-", dir="/tmp"))

    async def make() -> None:
        async with running(config_of(path)) as app:
            await fill(app)

    asyncio.run(make())
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short path."""
    path = Path(tempfile.mkdtemp(prefix="rs-rec-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def spool(made: Path, root: Path) -> Spool:
    """A copy of the filled spool."""
    shutil.copytree(made / "spool", root / "spool", symlinks=True)
    return Spool(root / "spool")


@asynccontextmanager
async def started(spool: Spool) -> AsyncIterator[App]:
    """A controller of this spool."""
    async with running(config_of(spool.root.parent)) as app:
        yield app


def archived(spool: Spool, target: Path, *, with_results: bool = True) -> Manifest:
    with target.open("wb") as file:
        sink = TarSink(file, compressed=target.suffix == ".gz")
        return backup.make(spool, sink, with_results=with_results, scratch=target.parent)


def copied(spool: Spool, target: Path, *, with_results: bool = True) -> Manifest:
    target.mkdir(exist_ok=True)
    return backup.make(spool, FolderSink(target), with_results=with_results, scratch=target.parent)


def restored(spool: Spool, source: Path, *, force: bool = False) -> Restored:
    """As the command does it, without the repairs."""
    unpacked = Path(tempfile.mkdtemp(prefix=".restore-", dir=spool.root))
    try:
        if source.is_dir():
            manifest = sources.read_folder(source, unpacked)
        else:
            with source.open("rb") as file:
                manifest = sources.read_archive(file, unpacked, source.name)
        return put_back(spool, unpacked, manifest, force=force)
    finally:
        shutil.rmtree(unpacked)


def findings(spool: Spool, *, repair: bool = False) -> list[Fault]:
    return list(fsck.examine(spool, repair=repair))


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


Damage = Callable[[Spool], None]
