"""A spool, and a watch whose finds can be waited for."""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from racksack_controller.intake.reading import with_read
from racksack_controller.intake.spool import DroppedFile, Watcher, prepare
from racksack_controller.sandbox import operations
from racksack_jobspecs.layout import Spool

GOOD = "project: up1\nentrypoint: main.py\n"
PATIENCE_S = 30.0

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: several users take part")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    found = Spool(tmp_path / "spool")
    prepare(found)
    return found


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="racksack-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Watch:
    """What a watcher has given out so far."""

    def __init__(self) -> None:
        self.files: list[DroppedFile] = []
        self.at_s: dict[str, float] = {}

    def named(self, name: str) -> list[DroppedFile]:
        return [file for file in self.files if file.path.name == name]

    async def until(self, done: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not done():
            assert time.monotonic() < deadline, [file.path.name for file in self.files][:20]
            await asyncio.sleep(0.005)

    async def find(self, name: str) -> DroppedFile:
        await self.until(lambda: bool(self.named(name)))
        return self.named(name)[0]


@contextlib.asynccontextmanager
async def watching(spool: Spool, settle_s: float = 0.2, rescan_s: float = 60.0) -> AsyncIterator[Watch]:
    watch = Watch()

    async def run() -> None:
        watcher = Watcher(spool, settle_s, rescan_s)
        async for file in watcher.files():
            watcher.settled(file)
            watch.at_s[file.path.name] = time.perf_counter()
            watch.files.append(parsed_here(file))

    task = asyncio.create_task(run())
    beacon = spool.jobs / "beacon.yaml"
    wait_s = 0.05
    while not watch.files:  # once a rename is heard of the watch is on
        drop(beacon, GOOD)
        await asyncio.sleep(wait_s)
        wait_s *= 2
    beacon.unlink()
    watch.files[:] = [file for file in watch.files if file.path != beacon]
    try:
        yield watch
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def parsed_here(file: DroppedFile) -> DroppedFile:
    """A file with what its text says, as the sandbox reads it."""
    if file.problems:
        return file
    read = msgspec.msgpack.decode(operations.TABLE["read"](file.text.encode()), type=operations.Read)
    return with_read(file, read)


def drop(path: Path, text: str | bytes) -> None:
    """As a careful program does it: written beside, renamed into place."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(text.encode() if isinstance(text, str) else text)
    beside.rename(path)
