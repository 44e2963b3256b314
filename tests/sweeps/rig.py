"""A whole controller in the test's own event loop, with this machine as one or two nodes, and sweeps put into it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from racksack_agent import private_tmp
from racksack_agent.home import Home
from racksack_agent.sessions import home_key
from racksack_controller.app import App
from racksack_controller.config.config import Config, Defaults, NodeConfig, Watch, Web
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.sweeps.records import Failure, Progress, Sweep
from racksack_controller.intake.spool import prepare
from racksack_controller.nodes.settings import LocalSettings
from racksack_controller.sweeps.results import ledger
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.snapshot import digest_of, manifest_of
from racksack_jobspecs.spec import Environment, JobSpec
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, Target, point_numbers
from racksack_jobspecs.sweep.states import SWEEP_FINAL, SweepState
from tests.sweeps.builders import rows

WAIT_S = 60.0
MIB = 1024**2


class Rig:
    """One running controller."""

    def __init__(self, root: Path, nodes: dict[str, int]) -> None:
        self.root = root
        self.nodes = nodes
        self.app: App
        self._task: asyncio.Task[None]
        self._count = 0

    def config(self) -> Config:
        nodes = {
            name: NodeConfig(name=name, reach=LocalSettings(self.root / name), cpus=cpus, ram_bytes=8 * 1024**3)
            for name, cpus in self.nodes.items()
        }
        return Config(
            spool=self.root / "spool",
            nodes=nodes,
            web=Web(listen=None),
            defaults=Defaults(time_limit_s=None, lost_after_s=2.0),
            watch=Watch(settle_s=0.5, rescan_s=10.0),
        )

    async def start(self) -> None:
        prepare(Spool(self.root / "spool"))
        self.app = App(self.config())
        ready = asyncio.Event()
        self._task = asyncio.create_task(self.app.run(lambda address: ready.set()))
        await asyncio.wait([asyncio.create_task(ready.wait()), self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        await self.until(lambda: all(node.connected for node in self.app.state.nodes.values()), "all nodes are up")

    async def stop(self) -> None:
        self.app.stop()
        await self._task

    async def submit(self, code: str, spec: SweepSpec | None = None, pending: Ranges | None = None, **job: Any) -> int:
        """A sweep of `f.py` with this code; its id. Fields of the job by name."""
        self._count += 1
        folder = self.root / f"project-{self._count}"
        folder.mkdir()
        (folder / "f.py").write_text(code)
        return await self.submit_folder(folder, spec or over(10), pending, **job)

    async def submit_folder(self, folder: Path, wanted: SweepSpec, pending: Ranges | None = None, **job: Any) -> int:
        digest = digest_of(manifest_of(folder))
        target = self.app.spool.snapshots / digest
        if not target.exists():
            shutil.copytree(folder, target)
        fields: dict[str, Any] = {
            "name": "demo", "project": f"snapshot:{digest}", "entrypoint": wanted.target.file or "f.py",
            "resources": ResourceRequest(2.0, 256 * MIB), "environment": Environment(kind="none"),
            "sweep": wanted, "submission": f"test:{time.time_ns()}",
        }  # fmt: skip
        points = Ranges([(0, point_numbers(wanted))]) if pending is None else pending
        return await self.app.sweeps.accept(JobSpec(**(fields | job)), "root", digest, (), points)

    async def found(self, number: int) -> tuple[Sweep, Progress]:
        found = await self.app.store.read(lambda connection: ledger.sweep_by_id(connection, number))
        assert found is not None
        return found

    async def progress(self, number: int) -> Progress:
        return (await self.found(number))[1]

    async def ended(self, number: int, state: SweepState = SweepState.DONE, timeout_s: float = WAIT_S) -> Progress:
        """The progress of a sweep that is over, and over in this state."""
        deadline = time.monotonic() + timeout_s
        while (progress := await self.progress(number)).state not in SWEEP_FINAL:
            assert time.monotonic() < deadline, f"it does not end: {progress} {self.jobs()}"
            await asyncio.sleep(0.01)
        assert progress.state is state, progress
        return progress

    async def reached(self, number: int, done: int) -> Progress:
        """The progress once so many points are done."""
        deadline = time.monotonic() + WAIT_S
        while (progress := await self.progress(number)).done < done:
            assert time.monotonic() < deadline, f"it does not get there: {progress} {self.jobs()}"
            await asyncio.sleep(0.01)
        return progress

    async def results(self, number: int, run: int = 0) -> dict[int, dict[str, Any]]:
        """Metrics by point; a point that counts twice fails the test."""

        def read(connection: sqlite3.Connection) -> dict[int, dict[str, Any]]:
            return rows(ledger.segments_of(connection, number, run))

        return await self.app.store.read(read)

    async def failures(self, number: int) -> dict[int, Failure]:
        found = await self.app.store.read(lambda connection: ledger.failures_of(connection, number))
        return {failure.point: failure for failure in found}

    def jobs(self) -> list[tuple[int, str, str]]:
        return [(job.id, str(job.state), job.reason) for job in self.app.state.jobs.values()]

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}; {self.jobs()}"
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """End all that runs, and the sessions' servers."""
        for job in list(self.app.state.jobs.values()):
            from racksack_controller.core.events import CancelRequested

            self.app.loop.post(CancelRequested(job.id, "the test is over", grace_s=0.0, signal="KILL"))
        for number in list(self.app.sweeps.active):
            with contextlib.suppress(Exception):
                await self.app.sweeps.cancel(number, "the test is over")
        await self.until(lambda: not self.app.state.jobs, "all jobs have ended")
        await self.stop()
        for name in self.nodes:
            socket = f"{private_tmp.folder()}/{home_key(Home(str(self.root / name)))}.tmux"
            subprocess.run(["tmux", "-S", socket, "kill-server"], capture_output=True, check=False)


@contextlib.asynccontextmanager
async def running(root: Path, **nodes: int) -> AsyncIterator[Rig]:
    """A controller whose nodes have so many cores each."""
    rig = Rig(root, nodes or {"here": 4})
    await rig.start()
    try:
        yield rig
    finally:
        await rig.close()


def over(points: int, **changes: Any) -> SweepSpec:
    """`f.py:f` over x = 0, 1, ..."""
    fields: dict[str, Any] = {"target": Target(file="f.py", name="f"), "axes": (Axis("x", tuple(range(points))),)}
    return SweepSpec(**(fields | changes))
