"""The line between the controller and one machine, behind the interface that production uses.

A request may be lost, and so may its answer, which is worse: the machine has done it. A line that is cut looks alive
until a keepalive was missed. What arrives does so in order, as in one TCP connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NoReturn, TypeVar

from racksack_controller.core.report import AttemptReport
from racksack_controller.nodes.collecting import Collector
from racksack_controller.nodes.errors import AgentError, NodeUnreachable, TransferFailed
from racksack_controller.nodes.node import CollectReply, Hello, LaunchOrder, LaunchReply, NodeStats, Sent
from racksack_controller.nodes.transport import Announced
from racksack_jobspecs.resources import Inventory
from tests.simulation.world.machine import Machine, Run

T = TypeVar("T")

LATENCY_S = (0.0005, 0.05)
KEEPALIVE_S = (5.0, 8.0)  # until a cut line is noticed


class Line:
    """The wire. `to_node`, `to_controller`: whether anything gets through that way."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.to_node = True
        self.to_controller = True
        self.flips = 0  # so many of the next files that are pulled arrive with a flipped bit

    def latency_s(self) -> float:
        """How long a message is under way."""
        return self.chance.uniform(*LATENCY_S)


class Transport:
    """Copies return folders; what came before a break is kept."""

    by_links = True  # so that each folder is pulled, and compared
    python, home = "python3", "/agent"

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    async def pull(self, remote: str, target: Path, announced: Announced, alike: Sequence[Path] = ()) -> None:
        """Copy `payload`, in two halves; the line may break in between."""
        del announced, alike
        attempt = remote.split("/")[-2]
        run = await self._node.ask(lambda: self._node.machine.runs.get(attempt))
        if run is None:
            raise TransferFailed(f"{attempt} is not there", "missing")
        if run.outcome != "done":
            return
        data = run.payload
        if self._node.line.flips:
            self._node.line.flips -= 1
            data = data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
        (target / "payload").write_bytes(data[: len(data) // 2])
        try:
            await self._node.ask(lambda: None)
        except NodeUnreachable as error:
            raise TransferFailed(str(error), "unreachable") from error
        if self._node.controller_is_full():
            raise TransferFailed("the controller's disk is full", "disk_full")
        (target / "payload").write_bytes(data)


class SimulatedNode:
    """One connection after the other to a machine. Once its controller has died it reaches nothing any more."""

    def __init__(self, name: str, machine: Machine, line: Line, controller_is_full: Callable[[], bool]) -> None:
        self.name, self.machine, self.line = name, machine, line
        self.controller_is_full = controller_is_full
        self.on_report: Callable[[AttemptReport], None] = lambda _report: None
        self.on_disconnect: Callable[[str], None] = lambda _sentence: None
        self.on_results: Callable[[str, int], None] = lambda _attempt, _length: None
        self.is_dead = False
        self._connection = 0
        self._is_open = False
        self._boot = 0
        self._breaking: asyncio.TimerHandle | None = None
        self._next_arrival_s = 0.0
        self._held: list[AttemptReport] = []

    # The wire

    def notice(self) -> None:
        """The line or the machine has changed: what is cut is noticed after a while, what was held up arrives."""
        if self._is_open and self._is_whole():
            held, self._held = self._held, []
            for report in held:
                self._arrives(report)
        if self._is_open and not self._is_whole() and self._breaking is None:
            delay_s = self.line.chance.uniform(*KEEPALIVE_S)
            self._breaking = asyncio.get_running_loop().call_later(delay_s, self._break, self._connection)

    def _is_whole(self) -> bool:
        return self.line.to_node and self.line.to_controller and self.machine.is_on and self._boot == self.machine.boots

    def _break(self, connection: int) -> None:
        self._breaking = None
        if self._is_open and connection == self._connection and not self._is_whole() and not self.is_dead:
            self._hang_up()
            self.on_disconnect(f"the connection to {self.name} timed out")

    def _hang_up(self) -> None:
        self._is_open = False
        self._held.clear()
        self._connection += 1
        if self._breaking is not None:
            self._breaking.cancel()
            self._breaking = None
        if self._arrives in self.machine.links:
            self.machine.links.remove(self._arrives)

    async def ask(self, act: Callable[[], T]) -> T:
        """Have something done on the machine. Raises NodeUnreachable, perhaps after it was done."""
        mine = self._connection
        if not self._is_open or self.is_dead:
            raise NodeUnreachable(f"{self.name} is not connected.")
        await asyncio.sleep(self.line.latency_s())
        if self.is_dead or mine != self._connection:
            raise NodeUnreachable(f"The connection to {self.name} ended.")
        if not (self.line.to_node and self.machine.is_on and self._boot == self.machine.boots):
            return await self._never(mine)
        result = act()
        await asyncio.sleep(self.line.latency_s())
        if not self.line.to_controller or not self.machine.is_on or self._boot != self.machine.boots:
            return await self._never(mine)
        if mine != self._connection:
            raise NodeUnreachable(f"The connection to {self.name} ended.")
        return result

    async def _never(self, mine: int) -> NoReturn:
        self.notice()
        while self._is_open and mine == self._connection and not self.is_dead:
            await asyncio.sleep(0.5)
            self.notice()
            if self._is_whole():  # the line came back, but what was lost stays lost: TCP sends again, a request waits
                self._hang_up()
                self.on_disconnect(f"the connection to {self.name} was reset")
        raise NodeUnreachable(f"The connection to {self.name} broke.")

    def _arrives(self, report: AttemptReport) -> None:
        """A report is under way; it comes after those before it, or never."""
        if self.is_dead:
            return
        if not self.line.to_controller:
            self._held.append(report)  # TCP sends it again, for as long as the connection lasts
            self.notice()
            return
        now_s = asyncio.get_running_loop().time()
        self._next_arrival_s = max(self._next_arrival_s, now_s + self.line.latency_s())
        asyncio.get_running_loop().call_at(self._next_arrival_s, self._arrived, report, self._connection)

    def _arrived(self, report: AttemptReport, connection: int) -> None:
        if not self._is_open or connection != self._connection or self.is_dead:
            return
        if not self.line.to_controller:
            self._held.append(report)
        else:
            self.on_report(report)
            if self.line.chance.random() < 0.05:
                self.on_report(report)

    # What production calls

    async def connect(self) -> Hello:
        """Reach the agent."""
        await asyncio.sleep(self.line.latency_s() * 4)
        if self.is_dead or not (self.line.to_node and self.line.to_controller and self.machine.is_on):
            await asyncio.sleep(3.0)
            raise NodeUnreachable(f"{self.name} cannot be reached (timed out).")
        self._hang_up()
        self._is_open, self._boot = True, self.machine.boots
        self.machine.links.append(self._arrives)
        whole = tuple(digest for digest, is_whole in self.machine.contents.items() if is_whole)
        facts = {"hostname": self.name, "python": "3.11", "home": "/agent", "session": "tmux", "uv": None}
        return Hello(
            agent="a",
            boot_id=self.machine.boot_id,
            rsync=None,
            clock_s=time.time(),
            up_s=1.0,
            reports=tuple(self.machine.reports()),
            contents=whole,
            **facts,  # type: ignore[arg-type]
        )

    async def close(self) -> None:
        """End the connection."""
        self._hang_up()

    async def probe(self) -> Inventory:
        """What the machine has."""
        return await self.ask(self.machine.inventory)

    async def stats(self) -> NodeStats:
        """What it uses now."""
        return await self.ask(lambda: NodeStats(load1=0.0, ram_used_bytes=0, disk_free_bytes=2**40))

    async def has(self, digests: Sequence[str]) -> list[str]:
        """Which contents are whole there."""
        return await self.ask(lambda: [one for one in digests if self.machine.contents.get(one, False)])

    async def share_port(self, port: int, wanted: int) -> int:
        """No ports here."""
        raise NodeUnreachable(f"{self.name} forwards no port {port} to {wanted}.")

    async def stage(self, digest: str, source: Path) -> Sent | None:
        """Bring a project."""
        if not source.is_dir():
            raise TransferFailed(f"{source} is gone", "missing")
        if await self.ask(lambda: self.machine.contents.get(digest, False)):
            return None
        await asyncio.sleep(self.line.chance.uniform(0.1, 4.0))
        try:
            await self.ask(lambda: self.machine.contents.__setitem__(digest, True))
        except NodeUnreachable as error:
            raise TransferFailed(str(error), "unreachable") from error
        return None

    async def launch(self, orders: Sequence[LaunchOrder]) -> list[LaunchReply]:
        """Begin attempts."""
        return await self.ask(lambda: [self.machine.launch(order) for order in orders])

    async def go(self, attempts: Sequence[str]) -> None:
        """Let prepared ranks begin."""
        await self.ask(lambda: [self.machine.go(attempt) for attempt in attempts])

    async def stop(self, attempt: str, reason: str, grace_s: float, signal: str = "TERM", warn_s: float = 0.0) -> None:
        """Ask an attempt to end."""
        del signal, warn_s
        await self.ask(lambda: self.machine.stop(attempt, reason, grace_s))

    async def reports(self) -> list[AttemptReport]:
        """Of everything that is there."""
        return await self.ask(self.machine.reports)

    async def collect(self, attempts: Mapping[str, Path]) -> dict[str, CollectReply]:
        """Pull results, by production's own rules."""
        try:
            runs: dict[str, Run] = await self.ask(lambda: dict(self.machine.runs))
        except NodeUnreachable as error:
            return {key: CollectReply(ok=False, error=str(error), kind="unreachable") for key in attempts}
        ended = {key: self.machine.report(runs[key]) for key in attempts if key in runs and not runs[key].is_alive}
        collector = Collector(self.name, Transport(self), "/agent", _no_requests)  # type: ignore[arg-type]
        return await collector.collect(attempts, ended)

    async def remove(self, attempts: Sequence[str]) -> None:
        """Take folders away."""
        removed = await self.ask(lambda: [self.machine.remove(attempt) for attempt in attempts])
        if not all(removed):
            raise AgentError("an attempt still runs", "running")


async def _no_requests(*_arguments: object) -> NoReturn:
    raise NodeUnreachable("small folders are pulled one by one here")
