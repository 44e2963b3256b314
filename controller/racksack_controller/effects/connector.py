"""Keeps every configured node connected, and tells the loop what it sees.

One task a node: connect, probe, report, wait for the end of the connection, and again after a growing delay. A node
that boots is looked at every half second, one that should be up every second, and called as soon as it answers; one
that is off is called once a minute, quietly, in case somebody else switched it on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.jobs.requeue import backoff_s
from racksack_controller.core.power import events as pe
from racksack_controller.core.power_records import Phase
from racksack_controller.core.report import AttemptReport
from racksack_controller.loop import Loop
from racksack_controller.nodes.answering import Answers
from racksack_controller.nodes.errors import HostKeyChanged, NodeError
from racksack_controller.nodes.node import Hello, Node, NodeStats
from racksack_jobspecs.resources import Inventory

log = logging.getLogger("racksack.nodes")

RETRY_S_MAX = 60.0  # for a node that is off, is silent, or shows another host key
RETRY_ANSWERING_S_MAX = 5.0  # for one that answers: what kept it from being used may be over at any moment
LOOK_EVERY_S = 1.0  # at a silent node, besides the two seconds that a look takes
CONNECT_TIMEOUT_S = 120.0
STATS_EVERY_S = 30.0
BOOT_LOOK_EVERY_S = 0.5
SIGN_OF_LIFE_S = 5.0
_DARK = (Phase.OFF, Phase.STOPPING, Phase.SET_ASIDE)


class Connector:
    """The connection of one node."""

    def __init__(
        self,
        loop: Loop,
        node: Node,
        complete: Callable[[Inventory], Inventory],
        answers: Answers | None = None,
        prepare: Callable[[Node], Awaitable[None]] | None = None,
    ) -> None:
        """`answers` tells cheaply whether the node is there at all, for while it boots. `prepare` is called when it is
        connected, before anybody knows; it raises NodeError.
        """
        self.stats: NodeStats | None = None
        self.stats_at_s = 0.0  # Unix time of `stats`
        self.hello: Hello | None = None  # what the agent said first, of the last connection
        self._loop = loop
        self._node = node
        self._complete = complete  # configured sizes and devices win over probed ones
        self._answers = answers
        self._prepare = prepare
        self._lost = asyncio.Event()
        self._lost_reason = ""
        self._probed: Inventory | None = None  # as the node said it at the last connection
        self._wrong_key = False  # it showed another host key: it is called rarely until somebody has looked
        self._said = ""  # why there is no connection, as the log has it
        self._retry_now = asyncio.Event()
        node.on_report = self._report
        node.on_disconnect = self._disconnected

    def retry_now(self) -> None:
        """Do not wait for the end of the delay: the node may have come on."""
        self._retry_now.set()

    def let_go(self, sentence: str) -> None:
        """The connection is over, however alive it looks: the node was switched off, or is known to be off."""
        if not self._lost.is_set():
            self._disconnected(sentence)

    async def look(self) -> NodeStats | None:
        """What the node uses just now, or None when it does not answer within a few seconds."""
        if not self._is_connected:
            return None
        try:
            async with asyncio.timeout(SIGN_OF_LIFE_S):
                await self._take_stats()
        except (NodeError, TimeoutError):
            return None
        return self.stats

    @property
    def _is_connected(self) -> bool:
        record = self._loop.state.nodes.get(self._node.name)
        return record is not None and record.connected and not self._lost.is_set()

    @property
    def _phase(self) -> Phase | None:
        """Where the node is between off and on; None for one that is always on."""
        power = self._loop.state.power.get(self._node.name)
        return power.phase if power else None

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                await self._connect()
                failures = 0
                await self._stay()
            except NodeError as error:
                self._wrong_key = isinstance(error, HostKeyChanged)
                self._say_disconnected(str(error))
            except TimeoutError:
                self._say_disconnected(f"{self._node.name} did not answer within {CONNECT_TIMEOUT_S:.0f} s")
            except Exception as error:  # whatever one node does, its task must go on trying
                log.exception("node %s: unexpected error", self._node.name)
                self._say_disconnected(f"connecting to {self._node.name} failed: {error!r}")
            failures += 1
            await self._rest(failures)

    async def _rest(self, failures: int) -> None:
        """Tidy up after a connection and wait until it is worth calling again; neither may end the calling."""
        try:
            await self._node.close()
        except Exception:
            log.exception("node %s: its connection could not be closed", self._node.name)
        try:
            await self._wait_to_call(failures)
        except Exception:
            log.exception("node %s: looking at it failed", self._node.name)
            await self._pause(RETRY_ANSWERING_S_MAX)

    async def _wait_to_call(self, failures: int) -> None:
        """Until it is worth calling again."""
        if self._phase is Phase.BOOTING:
            await self._pause(BOOT_LOOK_EVERY_S)
            while self._phase is Phase.BOOTING and self._answers is not None and not await self._answers():
                await self._pause(BOOT_LOOK_EVERY_S)
        elif self._phase in _DARK:
            await self._pause(RETRY_S_MAX)
        else:
            await self._wait_for_answer(backoff_s(failures, first_s=1.0, most_s=RETRY_S_MAX))

    async def _wait_for_answer(self, most_s: float) -> None:
        """Until a node that should be up answers after a silence, for `most_s` seconds at most."""
        if self._answers is None or self._wrong_key:
            await self._pause(most_s)
            return
        end_s = time.monotonic() + most_s
        if await self._answers():
            await self._pause(min(most_s, RETRY_ANSWERING_S_MAX))
            return
        while (left_s := end_s - time.monotonic()) > 0:
            if await self._pause(min(LOOK_EVERY_S, left_s)) or await self._answers():
                return

    async def _connect(self) -> None:
        self._lost.clear()
        self._wrong_key = False
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            hello = await self._node.connect()
            if self._prepare is not None:
                await self._prepare(self._node)
            self._probed = await self._node.probe()
            inventory = self._complete(self._probed)
            reports = await self._node.reports()
        self._said, self.hello = "", hello
        log.info("connected node=%s boot_id=%s", self._node.name, hello.boot_id)
        said = ev.NodeConnected(self._node.name, hello.boot_id, inventory, tuple(reports), hello.up_s, hello.contents)
        self._loop.post(said)

    async def _stay(self) -> None:
        """Until the connection ends; meanwhile look at the node's load now and then."""
        while not self._lost.is_set():
            await self._take_stats()
            try:
                async with asyncio.timeout(STATS_EVERY_S):
                    await self._lost.wait()
            except TimeoutError:
                continue
        self._say_disconnected(self._lost_reason)

    async def _take_stats(self) -> None:
        stats = await self._node.stats()
        self.stats, self.stats_at_s = stats, time.time()
        self._compare_gpus(stats)
        power = self._loop.state.power.get(self._node.name)
        if power is not None and power.logins != stats.logins:
            self._loop.post(pe.LoginsSeen(self._node.name, stats.logins))

    def _compare_gpus(self, stats: NodeStats) -> None:
        """Tell the core when a look at the devices found something else than it knows. Raises ValueError."""
        record = self._loop.state.nodes.get(self._node.name)
        if stats.gpus is None or self._probed is None or record is None or record.inventory is None:
            return
        seen = stats.gpus
        found = self._complete(replace(self._probed, gpus=seen.gpus, set_aside=seen.set_aside, problems=seen.problems))
        known = record.inventory
        if (found.gpus, found.set_aside, found.problems) != (known.gpus, known.set_aside, known.problems):
            self._loop.post(ev.GpusSeen(record.name, found.gpus, found.set_aside, found.problems))

    async def _pause(self, delay_s: float) -> bool:
        """Wait, at most until somebody expects the node to answer; whether somebody does."""
        self._retry_now.clear()
        try:
            async with asyncio.timeout(delay_s):
                return await self._retry_now.wait()
        except TimeoutError:
            return False

    def _report(self, report: AttemptReport) -> None:
        self._loop.post(ev.Reported(self._node.name, report))

    def _disconnected(self, sentence: str) -> None:
        self._lost_reason = sentence
        self._lost.set()

    def _say_disconnected(self, sentence: str) -> None:
        quiet = sentence == self._said or self._phase in _DARK or self._phase is Phase.BOOTING
        level = logging.DEBUG if quiet else logging.WARNING
        log.log(level, "disconnected node=%s reason=%s", self._node.name, sentence)
        self._said = sentence
        self._loop.post(ev.NodeDisconnected(self._node.name, sentence))
