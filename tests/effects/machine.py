"""A machine that does what a test says, behind the one interface to nodes, and a real loop with a real store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from racksack_controller.core.report import AttemptReport
from racksack_controller.intake.spool import prepare
from racksack_controller.loop import Loop
from racksack_controller.nodes.node import CollectReply, Hello, LaunchOrder, LaunchReply, NodeStats
from racksack_controller.store import Store
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.resources import Inventory
from tests.core.builders import inventory, report

WAIT_S = 60.0
Fault = Exception | Callable[[], Awaitable[None]]


class Machine:
    """Every call is noted. `faults`: what the next calls of a name meet, one after the other; then all goes well."""

    def __init__(self, name: str = "n1") -> None:
        self.name = name
        self.called: list[str] = []
        self.faults: dict[str, list[Fault]] = {}
        self.present: dict[str, AttemptReport] = {}  # attempts that have a folder
        self.on_report: Callable[[AttemptReport], None] = lambda _report: None
        self.on_disconnect: Callable[[str], None] = lambda _sentence: None
        self.on_results: Callable[[str, int], None] = lambda _attempt, _length: None

    async def _call(self, name: str) -> None:
        self.called.append(name)
        if left := self.faults.get(name):
            fault = left.pop(0)
            if isinstance(fault, Exception):
                raise fault
            await fault()

    async def connect(self) -> Hello:
        await self._call("connect")
        where = {"hostname": self.name, "python": "3.11", "home": "/home/r", "session": "tmux", "uv": None}
        return Hello(agent="a", boot_id="b1", rsync=None, clock_s=time.time(), **where)

    async def close(self) -> None:
        await self._call("close")

    async def probe(self) -> Inventory:
        await self._call("probe")
        return inventory()

    async def reports(self) -> list[AttemptReport]:
        await self._call("reports")
        return list(self.present.values())

    async def stats(self) -> NodeStats:
        await self._call("stats")
        return NodeStats(load1=0.0, ram_used_bytes=0, disk_free_bytes=2**40)

    async def stage(self, digest: str, source: Path) -> None:
        await self._call("stage")

    async def launch(self, orders: Sequence[LaunchOrder]) -> list[LaunchReply]:
        await self._call("launch")
        for order in orders:
            self.says(order.attempt, "running", started_at_s=time.time(), epoch=order.epoch)
        return [LaunchReply(order.attempt, ok=True) for order in orders]

    async def stop(self, attempt: str, reason: str, grace_s: float, signal: str = "TERM", warn_s: float = 0.0) -> None:
        await self._call("stop")
        if attempt in self.present:
            self.ends(attempt, outcome="timeout" if reason == "timeout" else "cancelled")

    async def collect(self, attempts: Mapping[str, Path]) -> dict[str, CollectReply]:
        await self._call("collect")
        for folder in attempts.values():
            (folder / "out.txt").write_text("42")
        return {attempt: CollectReply(ok=True, files=1, bytes=2) for attempt in attempts}

    async def remove(self, attempts: Sequence[str]) -> None:
        await self._call("remove")
        for attempt in attempts:
            self.present.pop(attempt, None)

    def says(self, attempt: str, state: str, **fields: Any) -> None:
        """An attempt is in this state from now on."""
        self.present[attempt] = report(attempt, state, **fields)
        self.on_report(self.present[attempt])

    def ends(self, attempt: str, outcome: str = "done") -> None:
        """A running attempt ends."""
        before = self.present[attempt]
        times = {"started_at_s": before.started_at_s, "ended_at_s": time.time(), "epoch": before.epoch}
        self.says(attempt, "ended", outcome=outcome, **times)


@contextlib.asynccontextmanager
async def looping(folder: Path) -> AsyncIterator[tuple[Loop, Spool]]:
    """A loop that has nobody yet to carry actions out; it runs once `run` is begun by the test."""
    spool = Spool(folder / "spool")
    prepare(spool)
    store = Store(spool.database)
    loop = Loop(store.load(), store, lost_after_s=600.0)
    try:
        yield loop, spool
    finally:
        loop.stop()
        store.close()


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what a test expects."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        await asyncio.sleep(0.005)
