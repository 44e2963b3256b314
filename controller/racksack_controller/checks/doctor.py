"""The controller's part of `racksack doctor`: everything that it can find out about itself, its nodes and its jobs.

What blocks is looked at in threads, what waits for others has a time limit, and all of it goes on at the same time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from racksack_controller.checks.configuration import MISTAKES, Loaded, look_at_configuration
from racksack_controller.checks.host import look_at_inotify, look_at_open_files, look_at_uv
from racksack_controller.checks.jobs import look_at_active, look_at_waiting
from racksack_controller.checks.known_nodes import look_at_known
from racksack_controller.checks.looks import Look, Looks
from racksack_controller.checks.node import check_node
from racksack_controller.checks.secrets import SECRETS, look_at_secrets
from racksack_controller.checks.sharing import look_at_sharing
from racksack_controller.checks.spool import look_at_spool
from racksack_controller.checks.store import LIMIT_S as STORE_S
from racksack_controller.checks.store import StoreCheck
from racksack_controller.config.config import Config
from racksack_controller.effects.connector import Connector
from racksack_controller.intake.watcher import Watcher
from racksack_controller.loop import Loop
from racksack_jobspecs.findings import Finding, failed, not_looked_at, of_part, ok
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.units import format_duration

log = logging.getLogger("racksack.checks")

LOOK_S = 15.0
NODE_S = 90.0
CLOSE_S = 5.0  # to end the connections of a node's check that took too long


class Doctor:
    """Looks at one running controller."""

    def __init__(
        self,
        loop: Loop,
        spool: Spool,
        watcher: Watcher,
        connectors: Mapping[str, Connector],
        loaded: Callable[[], Loaded],
        started_at_s: float,
    ) -> None:
        self._loop, self._spool, self._watcher, self._connectors = loop, spool, watcher, connectors
        self._loaded = loaded
        self._started_at_s = started_at_s
        self._store = StoreCheck(spool.database)
        self._looks = Looks()
        self._checks: dict[str, asyncio.Task[list[Finding]]] = {}  # of nodes, those under way

    async def examine(self, names: Sequence[str], *, is_operator: bool) -> list[Finding]:
        """All findings in order; of the nodes `names` all that `racksack node check` finds too.

        That logs in on the nodes and at their BMCs, so only operators have it done.
        """
        state = self._loop.state
        controller, waiting, checks = await asyncio.gather(
            self._of_controller(is_operator=is_operator),
            look_at_waiting(state),
            asyncio.gather(*(self._of_node(name, is_operator=is_operator) for name in names)),
        )
        now = time.time()
        return [
            *of_part("controller", controller),
            *of_part("nodes", look_at_known(state, self._connectors, now)),
            *of_part("nodes", [finding for check in checks for finding in check]),
            *of_part("jobs", [*waiting, *look_at_active(state.attempts, now)]),
        ]

    async def _of_controller(self, *, is_operator: bool) -> list[Finding]:
        loaded = self._loaded()
        rescan_s = loaded.at_start.watch.rescan_s
        found = await asyncio.gather(
            self._look("spool", lambda: look_at_spool(self._spool)),
            self._look("store", self._store.look, STORE_S + LOOK_S),
            self._look("configuration", lambda: look_at_configuration(loaded)),
            self._look("sharing", lambda: look_at_sharing(loaded.now)),
            self._look("secrets", lambda: look_at_secrets(loaded.now)),
            self._look("uv", look_at_uv),
        )
        return [
            self._running(),
            *(finding for part in found for finding in part if is_operator or finding.what not in (MISTAKES, SECRETS)),
            *look_at_inotify(self._watcher.hears, rescan_s),
            *look_at_open_files(),
        ]

    async def _look(self, what: str, look: Look, limit_s: float = LOOK_S) -> list[Finding]:
        return await self._looks.take(
            what, look, limit_s, "its disk, or the network file system that it is on, does not respond"
        )

    def _running(self) -> Finding:
        unsaved = self._loop.unsaved_reason
        if unsaved:
            return failed("running", f"no job is started until its decisions can be saved: {unsaved}")
        return ok("running", f"for {format_duration(time.time() - self._started_at_s)}, and saves what it decides")

    async def _of_node(self, name: str, *, is_operator: bool) -> list[Finding]:
        if not is_operator:
            return [
                not_looked_at(f"{name} check", "only an operator may check a node; `racksack why` shows what is known")
            ]
        task = self._checks.get(name)
        if task is None:
            task = self._checks[name] = asyncio.create_task(self._check(self._loaded().now, name), name=f"check {name}")
            task.add_done_callback(lambda _: self._checks.pop(name))
        found = await asyncio.shield(task)
        return [Finding(f"{name} {finding.what}", finding.verdict, finding.sentence) for finding in found]

    async def _check(self, config: Config, name: str) -> list[Finding]:
        """The check, within its time. It is not begun twice at once, whoever asks."""
        checking = asyncio.ensure_future(check_node(config, name))
        try:
            await asyncio.wait({checking}, timeout=NODE_S)
            if not checking.done():
                return [failed("check", f"did not end within {NODE_S:.0f} s; look at the node's load and its console")]
        finally:
            if not checking.done():
                checking.cancel()
                await asyncio.wait({checking}, timeout=CLOSE_S)
        error = checking.exception()
        if error is not None:
            log.error("the check of %s failed", name, exc_info=error)
            return [failed("check", "failed; see the controller's log")]
        return checking.result()

    async def close(self) -> None:
        """End the checks of nodes that are under way."""
        for task in list(self._checks.values()):
            task.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)
