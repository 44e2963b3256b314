"""Follows one runner: sends it what it should have, and pulls what it has written as soon as it says that there is
more. Every failure is a matter of trying again; what is stored says where to go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from racksack_controller.nodes.errors import AgentError, NodeError, NodeUnreachable
from racksack_controller.nodes.node import Node
from racksack_controller.store import Store, StoreError
from racksack_controller.sweeps import leases, receive
from racksack_controller.sweeps.active import Active, RunnerAttempt
from racksack_controller.sweeps.results.segments import FrameError

log = logging.getLogger("racksack.sweeps")

PULL_BYTES = 4 * 1024**2
AGAIN_S = 1.0


class Follower:
    """What following needs of the controller around it."""

    def __init__(self, nodes: Mapping[str, Node], store: Store, changed: Callable[[Active], None]) -> None:
        self._nodes = nodes
        self._store = store
        self._changed = changed
        self.on_nonsense: Callable[[Active, RunnerAttempt, str], None] = lambda active, runner, sentence: None

    async def follow(self, active: Active, runner: RunnerAttempt) -> None:
        """Until cancelled, or until what it tells cannot be used."""
        while True:
            await runner.news.wait()
            runner.news.clear()
            node = self._nodes.get(runner.node)
            if node is None:
                continue
            try:
                await self._exchange(active, runner, node)
            except NodeUnreachable:
                continue  # a new connection is news
            except NodeError as error:
                log.info("sweep=%s runner=%s: %s", active.id, runner.attempt, error)
                await asyncio.sleep(AGAIN_S)
                runner.news.set()
            except StoreError as error:
                log.error("sweep=%s: %s", active.id, error)
                active.is_stale = True  # loaded again, it is followed again
                self._changed(active)
                return
            except FrameError as error:
                self._refuse(active, runner, error)
                return
            except Exception as error:  # what nobody foresaw in one runner's results ends that runner alone
                log.exception("sweep=%s runner=%s cannot be followed", active.id, runner.attempt)
                self._refuse(active, runner, error)
                return

    async def _exchange(self, active: Active, runner: RunnerAttempt, node: Node) -> None:
        await leases.feed(active, runner, node, self._store)
        await leases.control(active, runner, node)
        while await self._pull(active, runner, node):
            await leases.feed(active, runner, node, self._store)

    async def _pull(self, active: Active, runner: RunnerAttempt, node: Node) -> bool:
        """Take one piece; whether there may be another. Raises NodeError, StoreError, FrameError."""
        async with runner.pulling:
            offset = runner.position + len(runner.buffer)
            piece = await node.results(runner.attempt, offset, PULL_BYTES)
            if not piece.data:
                return False
            runner.heard_s = time.monotonic()
            if await receive.take(active, runner, piece.data, self._store, time.time()):
                self._changed(active)
            return offset + len(piece.data) < piece.size_bytes

    async def drain(self, active: Active, runner: RunnerAttempt) -> None:
        """Take all that a runner which has ended wrote. Raises NodeError, StoreError."""
        node = self._nodes.get(runner.node)
        if node is None:
            raise NodeUnreachable(f"{runner.node} is not in the configuration")
        try:
            while True:
                offset = runner.position + len(runner.buffer)
                await self._pull(active, runner, node)
                if runner.position + len(runner.buffer) == offset:
                    break
        except AgentError as error:  # there is nothing of it on the node
            log.warning("sweep=%s runner=%s: %s", active.id, runner.attempt, error)
        except FrameError as error:
            self._refuse(active, runner, error)
        runner.is_drained = True
        self._changed(active)

    def _refuse(self, active: Active, runner: RunnerAttempt, error: Exception) -> None:
        """Nothing more is believed of this runner; another takes its place."""
        runner.is_refused = runner.is_drained = True
        self.on_nonsense(active, runner, f"its runner on {runner.node} sent invalid data: {error}")
        self._changed(active)
