"""The one implementation of Node: a transport to the machine, a link to the agent on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from racksack_controller.core.report import ReportState
from racksack_controller.nodes import bootstrap, checkpoint_pull
from racksack_controller.nodes.agent_answers import (
    REPORTS_BYTES_MAX,
    RESULTS_BYTES_MAX,
    SMALL_BYTES_MAX,
    Argv,
    BringAnswer,
    HelloAnswer,
    PieceAnswer,
    read_reports,
)
from racksack_controller.nodes.collecting import Collector
from racksack_controller.nodes.errors import NodeError, NodeUnreachable, NodeUnusable
from racksack_controller.nodes.lines import ANSWER_BYTES_MAX, Lines, decode
from racksack_controller.nodes.link import Link
from racksack_controller.nodes.node import (
    AttemptReport,
    BroughtLeft,
    CollectReply,
    Hello,
    Inventory,
    LaunchOrder,
    LaunchReply,
    NodeStats,
    Piece,
    PulledCheckpoint,
    Sent,
)
from racksack_controller.nodes.slurm_facts import SlurmFacts
from racksack_controller.nodes.staging import Stager
from racksack_controller.nodes.transport import Transport
from racksack_controller.nodes.uv_push import push_uv
from racksack_jobspecs.bounds import cut

log = logging.getLogger(__name__)

SHORT_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 60.0  # nvidia-smi on a cold driver takes tens of seconds
LAUNCH_TIMEOUT_S, LAUNCH_TIMEOUT_S_EACH = 120.0, 0.5
BROUGHT_NOTES_MAX = 20
REMOVE_TIMEOUT_S = 300.0
SLURM_TIMEOUT_S = 180.0  # a minute of it for a small job
NAMELESS_SHOWN = 3
SLOW_ANSWER_S = 0.02  # of the agent's first answer: more than this is not a local network

T = TypeVar("T")


class AgentNode:
    """One machine that runs attempts, reached over `transport`."""

    def __init__(self, name: str, transport: Transport, options: Sequence[str] = ()) -> None:
        """`options`: further arguments of the agent's `serve`."""
        self.name = name
        self._options = options
        self.on_report: Callable[[AttemptReport], None] = lambda report: None
        self.on_disconnect: Callable[[str], None] = lambda sentence: None
        self.on_results: Callable[[str, int], None] = lambda attempt, size_bytes: None
        self._transport = transport
        self._package = bootstrap.agent_package()
        self._link: Link | None = None
        self._stager: Stager | None = None
        self._collector: Collector | None = None
        self._home: str | None = None  # the agent's, while it is connected
        self._uv: asyncio.Task[bool] | None = None
        self._ground: bootstrap.Ground | None = None
        self._is_slow = False  # results are compressed on the way
        self._ended: dict[str, AttemptReport] = {}

    # Connection

    async def connect(self) -> Hello:
        """See Node."""
        await self.close()
        try:
            await self._transport.connect()
            return await self._start_agent()
        except BaseException:
            await self.close()
            raise

    async def _start_agent(self) -> Hello:
        transport = self._transport
        pipes = await transport.open_agent(
            bootstrap.command(transport.python, transport.home, self._package.digest, self._options)
        )
        lines = Lines(pipes)
        try:
            ground = await bootstrap.handshake(self.name, pipes, lines, self._package)
        except BaseException:
            pipes.close()
            raise
        self._link = Link(self.name, pipes, lines, self._reported, self._disconnected, self._results_grew)
        self._link.start()
        asked_s = asyncio.get_running_loop().time()
        said = await self._ask("hello", {}, SHORT_TIMEOUT_S, HelloAnswer, REPORTS_BYTES_MAX)
        self._is_slow = asyncio.get_running_loop().time() - asked_s > SLOW_ANSWER_S and not transport.by_links
        hello = said.hello(await self._read(said.reports))
        self._judge(hello)
        self._stager = Stager(self.name, transport, hello.home, self._ask)
        self._home = hello.home
        self._collector = Collector(self.name, transport, hello.home, self._ask)
        self._ground = ground
        if hello.uv is None:
            self._push_uv(ground)
        return hello

    def _push_uv(self, ground: bootstrap.Ground) -> None:
        self._uv = asyncio.create_task(push_uv(self.name, self._transport, ground), name=f"uv to {self.name}")

    def _judge(self, hello: Hello) -> None:
        if hello.session is None:
            raise NodeUnusable(f"{self.name} has neither tmux nor screen; install one of them there.")
        if hello.rsync is None and not self._transport.by_links:
            raise NodeUnusable(f"{self.name} has no rsync; install the package rsync there.")

    async def close(self) -> None:
        """See Node."""
        if self._uv is not None:
            self._uv.cancel()
            await asyncio.gather(self._uv, return_exceptions=True)
        if self._stager is not None:
            await self._stager.close()
        if self._link is not None:
            await self._link.close()
        self._link = self._stager = self._collector = self._uv = self._home = None
        await self._transport.close()

    async def _ask(
        self,
        op: str,
        arguments: dict[str, object],
        timeout_s: float,
        kind: type[T],
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> T:
        """A request whose result is a `kind`."""
        if self._link is None:
            raise NodeUnreachable(f"{self.name} is not connected.")
        result = await self._link.call(op, arguments, timeout_s, bytes_max)
        try:
            answer: T = decode(result, kind)
        except ValueError as error:
            raise self._nonsense(op, error) from error
        return answer

    async def _tell(self, op: str, arguments: dict[str, object], timeout_s: float = SHORT_TIMEOUT_S) -> None:
        """A request whose result says nothing."""
        await self._ask(op, arguments, timeout_s, msgspec.Raw, SMALL_BYTES_MAX)

    def _nonsense(self, op: str, error: ValueError) -> NodeUnusable:
        return NodeUnusable(f"The agent on {self.name} answered {op!r} with something else ({error}).")

    # Reports

    def _reported(self, report: AttemptReport) -> None:
        self._remember([report])
        self.on_report(report)

    def _disconnected(self, sentence: str) -> None:
        self.on_disconnect(sentence)

    def _results_grew(self, attempt: str, size_bytes: int) -> None:
        self.on_results(attempt, size_bytes)

    def _remember(self, reports: Iterable[AttemptReport]) -> None:
        self._ended |= {report.attempt: report for report in reports if report.state is ReportState.ENDED}

    async def reports(self) -> list[AttemptReport]:
        """See Node."""
        return await self._read(await self._ask("reports", {}, SHORT_TIMEOUT_S, list[msgspec.Raw], REPORTS_BYTES_MAX))

    async def _read(self, texts: Sequence[msgspec.Raw]) -> list[AttemptReport]:
        """The reports of all attempts, each read by itself, so that a wrong one is the loss of one attempt."""
        try:
            reports, nameless = await asyncio.to_thread(read_reports, self.name, texts)
        except ValueError as error:
            raise self._nonsense("reports", error) from error
        for sentence in nameless[:NAMELESS_SHOWN]:
            log.warning("%s", sentence)
        self._ended = {}
        self._remember(reports)
        return reports

    # Jobs

    async def stage(self, digest: str, source: Path) -> Sent | None:
        """See Node."""
        if self._stager is None:
            raise NodeUnreachable(f"{self.name} is not connected.")
        return await self._stager.stage(digest, source)

    async def share_port(self, port: int, wanted: int) -> int:
        """See Node."""
        return await self._transport.share_port(port, wanted)

    async def has(self, digests: Sequence[str]) -> list[str]:
        """See Node."""
        return await self._ask("has", {"digests": list(digests)}, SHORT_TIMEOUT_S, list[str])

    async def launch(self, orders: Sequence[LaunchOrder]) -> list[LaunchReply]:
        """See Node. The first launch after a connect waits for uv where it is on its way."""
        if self._uv is not None and not self._uv.done():
            await asyncio.wait([self._uv])
        arguments: dict[str, object] = {"orders": list(orders)}
        timeout_s = LAUNCH_TIMEOUT_S + LAUNCH_TIMEOUT_S_EACH * len(orders)
        replies = await self._ask("launch", arguments, timeout_s, list[LaunchReply])
        if [reply.attempt for reply in replies] != [order.attempt for order in orders]:
            raise NodeUnusable(f"The agent on {self.name} answered a launch with other attempts than it was asked for.")
        for order, reply in zip(orders, replies, strict=True):
            if not reply.ok and self._stager is not None:
                earlier = order.checkpoint.digest if order.checkpoint is not None else ""
                for digest in (order.digest, *(one.digest for one in order.data), earlier):
                    self._stager.forget(digest)
        return replies

    async def go(self, attempts: Sequence[str]) -> None:
        """See Node."""
        await self._tell("go", {"attempts": list(attempts)}, SHORT_TIMEOUT_S)

    async def stop(self, attempt: str, reason: str, grace_s: float, signal: str = "TERM", warn_s: float = 0.0) -> None:
        """See Node."""
        how = {"grace_s": grace_s, "signal": signal, "warn_s": warn_s}
        await self._tell("stop", {"attempt": attempt, "reason": reason, **how}, SHORT_TIMEOUT_S)

    async def signal(self, attempt: str, name: str) -> None:
        """See Node."""
        await self._tell("signal", {"attempt": attempt, "signal": name}, SHORT_TIMEOUT_S)

    async def collect(self, attempts: Mapping[str, Path]) -> dict[str, CollectReply]:
        """See Node."""
        try:
            if any(attempt not in self._ended for attempt in attempts):
                await self.reports()
            if self._collector is None:
                raise NodeUnreachable(f"{self.name} is not connected.")
        except NodeError as error:
            return dict.fromkeys(attempts, CollectReply(False, error=str(error), kind="unreachable"))
        return await self._collector.collect(attempts, self._ended)

    async def bring_left(self, attempt: str, patterns: Sequence[str], target: Path) -> BroughtLeft:
        """See Node."""
        if self._collector is None:
            raise NodeUnreachable(f"{self.name} is not connected.")
        arguments: dict[str, object] = {"attempt": attempt, "patterns": list(patterns)}
        found = await self._ask("bring", arguments, REMOVE_TIMEOUT_S, BringAnswer)
        if found.files:
            await self._collector.pull_left(attempt, found, target)
        await self._tell("brought", {"attempt": attempt}, REMOVE_TIMEOUT_S)
        return BroughtLeft(found.files, found.bytes, tuple(cut(one) for one in found.missing[:BROUGHT_NOTES_MAX]))

    async def pull_checkpoint(self, attempt: str, target: Path, alike: Sequence[Path] = ()) -> PulledCheckpoint:
        """See Node."""
        if self._home is None:
            raise NodeUnreachable(f"{self.name} is not connected.")
        return await checkpoint_pull.pull(self.name, self._transport, self._home, self._ask, attempt, target, alike)

    async def remove(self, attempts: Sequence[str]) -> None:
        """See Node."""
        await self._tell("remove", {"attempts": list(attempts)}, REMOVE_TIMEOUT_S)
        for attempt in attempts:
            self._ended.pop(attempt, None)

    # Sweeps

    async def feed(self, attempt: str, chunks: Sequence[Mapping[str, object]]) -> None:
        """See Node."""
        await self._tell("feed", {"attempt": attempt, "chunks": list(chunks)}, SHORT_TIMEOUT_S)

    async def control(
        self, attempt: str, *, finish: bool, back: Sequence[int], verdicts: Sequence[tuple[int, int, bool]] = ()
    ) -> None:
        """See Node."""
        arguments: dict[str, object] = {
            "attempt": attempt,
            "finish": finish,
            "back": list(back),
            "verdicts": list(verdicts),
        }
        await self._tell("control", arguments, SHORT_TIMEOUT_S)

    async def results(self, attempt: str, offset: int, limit: int) -> Piece:
        """See Node. Packed on the way where the node answers slowly."""
        arguments: dict[str, object] = {"attempt": attempt, "offset": offset, "limit": limit, "zlib": self._is_slow}
        limit = min(limit, RESULTS_BYTES_MAX)
        piece = await self._ask("results", arguments, SHORT_TIMEOUT_S, PieceAnswer, 2 * RESULTS_BYTES_MAX)
        return await self._piece("results", piece, limit)

    async def _piece(self, op: str, piece: PieceAnswer, limit: int) -> Piece:
        try:
            return await asyncio.to_thread(piece.piece, limit)
        except ValueError as error:
            raise self._nonsense(op, error) from error

    # Looking

    async def probe(self) -> Inventory:
        """See Node."""
        return await self._ask("probe", {}, PROBE_TIMEOUT_S, Inventory)

    async def tail(self, attempt: str, stream: str, offset: int, limit: int) -> Piece:
        """See Node."""
        arguments: dict[str, object] = {"attempt": attempt, "stream": stream, "offset": offset, "limit": limit}
        piece = await self._ask("tail", arguments, SHORT_TIMEOUT_S, PieceAnswer)
        return await self._piece("tail", piece, limit)

    async def attach(self, attempt: str, way: str) -> list[str]:
        """See Node."""
        found = await self._ask("attach", {"attempt": attempt}, SHORT_TIMEOUT_S, dict[str, Argv], SMALL_BYTES_MAX)
        return self._transport.interactive(found[way]) if found.get(way) else []

    async def slurm(self) -> SlurmFacts:
        """What is to be known of the cluster whose login node this is; a small job is run. Raises NodeError."""
        return await self._ask("slurm", {}, SLURM_TIMEOUT_S, SlurmFacts)

    async def stats(self) -> NodeStats:
        """See Node. A uv that was damaged or removed since is put there again."""
        stats = await self._ask("stats", {}, SHORT_TIMEOUT_S, NodeStats)
        failed = self._uv is not None and (not self._uv.done() or self._uv.cancelled() or not self._uv.result())
        if not stats.uv and not failed and self._ground is not None:
            self._push_uv(self._ground)
        return stats
