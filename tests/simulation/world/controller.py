"""The controller of a simulation: the production application on a real spool, killed at any moment and started again.

A kill is exact: the spool is copied at that moment, whatever the dying application still does happens to the original,
and the next life begins with the copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from racksack_controller import app as app_module
from racksack_controller.app import App
from racksack_controller.config.config import Config, Defaults, NodeConfig, Watch, Web
from racksack_controller.intake import watcher
from racksack_controller.intake.spool import prepare
from racksack_controller.nodes.node import Node
from racksack_controller.nodes.settings import SshSettings
from racksack_controller.sandbox.operations import TABLE
from racksack_jobspecs.layout import Spool

LOST_AFTER_S = 30.0
OF_THE_WORLD = "world"  # the name of tasks that are not the application's
MakeNode = Callable[[str], Node]


class InOneProcess:
    """Reads job files here: the sandbox's processes have no simulated time. What is read is what they read."""

    async def warm_up(self) -> None:
        """Nothing to do."""

    async def compute(self, user: str, operation: str, payload: bytes, **_limits: float) -> bytes:
        """What the operation gives."""
        del user
        await asyncio.sleep(0.001)
        return TABLE[operation](payload)

    async def close(self) -> None:
        """Nothing to do."""


class Disk(sqlite3.Connection):
    """The store's connection for writing, on a disk that may be full."""

    is_full: Callable[[], bool] = staticmethod(lambda: False)

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """As ever, but for a commit on a full disk."""
        if sql == "COMMIT" and type(self).is_full():
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *arguments)


class Controller:
    """One spool, and the application that runs on it, if any."""

    def __init__(self, root: Path, nodes: list[str], make_node: MakeNode, answers: Callable[[str], Any]) -> None:
        self.spool = Spool(root)
        self._make_node, self._answers = make_node, answers
        self._config = Config(
            spool=root,
            web=Web(listen=None),
            nodes={name: NodeConfig(name=name, reach=SshSettings(host=name, user="racksack")) for name in nodes},
            defaults=Defaults(lost_after_s=LOST_AFTER_S),
            watch=Watch(settle_s=0.2, rescan_s=1.0),
        )
        self.app: App | None = None
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def parts(self) -> Iterator[None]:
        """The lowest layers are simulated while this lasts."""
        with (
            mock.patch.object(app_module, "make_node", lambda name, *_rest: self._make_node(name)),
            mock.patch.object(app_module, "answers_of", lambda reach: self._answers(reach.host)),
            mock.patch.object(app_module, "Sandbox", InOneProcess),
            mock.patch.object(watcher, "InotifyObserver", _no_inotify),
        ):
            yield

    async def start(self) -> App:
        """Begin a life. Raises SpoolBusyError when there is one already."""
        prepare(self.spool)
        app = App(self._config)
        ready = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(app.run(ready.set_result))
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            task.result()
        self.app, self._task = app, task
        return app

    async def stop(self) -> None:
        """End a life as SIGTERM does."""
        if self.app is not None and self._task is not None:
            self.app.stop()
            await self._task
        self.app = self._task = None

    async def kill(self) -> None:
        """End it as kill -9 does: nothing more is written, nobody is told."""
        app, self.app = self.app, None
        if app is None:
            return
        root = self.spool.root
        kept = root.with_name(root.name + ".kept")
        shutil.copytree(
            root, kept, symlinks=True, ignore=lambda _folder, names: [n for n in names if n.endswith(".sock")]
        )
        for node in app.nodes.values():
            node.is_dead = True  # type: ignore[attr-defined]
        await end_all(task for task in asyncio.all_tasks() if task.get_name() != OF_THE_WORLD)
        if not app.store._write_thread._shutdown:
            app.store.close()
        app.lock.release()
        shutil.rmtree(root)
        kept.rename(root)


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended, or have been asked often enough."""
    left = set(tasks)
    for _ in range(20):
        for task in left:
            task.cancel()
        if not left:
            return
        done, left = await asyncio.wait(left, timeout=0.2)
        for task in done:
            if not task.cancelled():
                task.exception()


def _no_inotify(*_arguments: object, **_options: object) -> object:
    raise OSError("there is no inotify here")
