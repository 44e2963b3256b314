"""A whole controller in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from racksack_controller.app import App
from racksack_controller.config.config import Config, Defaults, NodeConfig, Watch, Web
from racksack_controller.intake.spool import prepare
from racksack_controller.nodes.settings import LocalSettings
from racksack_jobspecs.layout import Spool

WAIT_S = 60.0
GOOD = "project: {project}\nentrypoint: main.py\nenvironment: none\n"


def config_of(root: Path) -> Config:
    node = NodeConfig(name="here", reach=LocalSettings(root / "node"), cpus=4, ram_bytes=8 * 1024**3)
    return Config(
        spool=root / "spool",
        nodes={"here": node},
        web=Web(listen=None),
        defaults=Defaults(time_limit_s=None),
        watch=Watch(settle_s=0.2, rescan_s=5.0),
    )


@contextlib.asynccontextmanager
async def running(config: Config, reread: Callable[[], Config] | None = None) -> AsyncIterator[App]:
    """A controller that answers; it ends with the block, and must not have ended before."""
    prepare(Spool(config.spool))
    app, ready = App(config, reread), asyncio.Event()
    task = asyncio.create_task(app.run(lambda _address: ready.set()))
    await asyncio.wait([asyncio.create_task(ready.wait()), task], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield app
        assert not task.done(), "the controller ended by itself"
    finally:
        app.stop()
        await task


def upload(spool: Spool, name: str, text: str = "print('hello')\n") -> str:
    """A project in incoming/; its name."""
    folder = spool.incoming / name
    folder.mkdir()
    (folder / "main.py").write_text(text)
    return name


def drop(spool: Spool, name: str, text: str) -> Path:
    """A job file, renamed into place."""
    beside = spool.jobs / f".{name}.new"
    beside.write_text(text)
    path = spool.jobs / f"{name}.yaml"
    beside.rename(path)
    return path


async def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, f"in vain: {what}"
        await asyncio.sleep(0.02)


def refused(spool: Spool, name: str) -> str:
    """Why a file was refused; nothing while it was not."""
    path = spool.rejected / f"{name}.yaml.error"
    return path.read_text() if path.exists() else ""


def submitted(app: App, name: str) -> bool:
    """Whether a job of this name is in the queue, or was."""
    rows = app.store.look(
        lambda connection: connection.execute("SELECT 1 FROM jobs WHERE name = ?", (name,)).fetchall()
    )
    return bool(rows)


def resident_bytes() -> int:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
