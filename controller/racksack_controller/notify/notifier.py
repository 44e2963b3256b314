"""Tells each channel what it wants to hear: ends of sweeps and jobs, and what befalls nodes and the controller.

Notices go into the outbox in the store first and are sent from there, a task for each channel, so that a receiver that
is down for days loses nothing and holds nobody up. What could not be sent is tried again at growing distances. A
controller that is killed between sending and noting it sends twice: receivers can tell by the key.

Many notices at once become one: what comes together within moments, and what has piled up in quiet hours or while a
receiver was down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from racksack_controller.config.notify import Channel, quiet_until_s
from racksack_controller.core.power_records import Phase
from racksack_controller.core.state import Changes, Job, State
from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.notify import notices, outbox
from racksack_controller.notify.notices import Facts
from racksack_controller.notify.ways import NotTold, tell
from racksack_controller.store import Store, StoreError, jobs_where
from racksack_controller.sweeps.results import ledger, ranking
from racksack_jobspecs.states import FINAL, JobState

log = logging.getLogger("racksack.notify")

GATHER_S = 2.0  # so long others are waited for that come together with the first
ALONE_MAX = 3  # more notices than this are sent as one
BATCH = 500
FIRST_WAIT_S = 2.0  # then four times as long each time
WAIT_S_MAX = 1800.0
AT_ONCE = 8
OLDEST_S = 86400.0  # of ends that are told after a restart
OLDEST_MAX = 10_000
PRUNE_EVERY_S = 3600.0

Wanted = tuple[str, Facts]  # a channel and what it is to be told


class Notifier:
    """The telling of what happened."""

    def __init__(self, store: Store, state: State, channels: Mapping[str, Channel]) -> None:
        self._store, self._state = store, state
        self.channels = dict(channels)
        self.web_address = ""
        self.first_wait_s, self.gather_s = FIRST_WAIT_S, GATHER_S
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._set_aside: set[str] = set()  # nodes
        self._gpus_set_aside: dict[str, frozenset[str]] = {}  # by node
        self._lost: dict[str, float] = {}  # by node: since when it does not answer

    # Life

    async def open(self, *, after_crash: bool = False) -> None:
        """Go on with what was not told before the controller ended. Raises StoreError."""
        since = time.time() - OLDEST_S
        self._see_nodes(self._state)
        for sweep, progress in await self._store.read(lambda connection: _untold(connection, since)):
            await self._sweep_ended(sweep, progress)
        ended = await self._store.read(lambda connection: _ended_jobs(connection, since))
        wanted = [pair for job in ended for pair in self._of_job(job)]
        if after_crash:
            wanted += self._of_rack(notices.of_crash(time.time()))
        if wanted:
            await self._add(wanted)
        self.use(self.channels)

    def use(self, channels: Mapping[str, Channel]) -> None:
        """These are the channels from now on; each has a task that sends."""
        self.channels = dict(channels)
        for name in list(self._senders):
            if name not in self.channels:
                self._senders.pop(name).cancel()
        for name in self.channels:
            self._news.setdefault(name, asyncio.Event()).set()
            if name not in self._senders:
                self._senders[name] = asyncio.create_task(self._send_all(name), name=f"notify {name}")

    async def close(self) -> None:
        """Stop; what was not told is told after the next start."""
        tasks = [*self._senders.values(), *self._writing]
        self._senders.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What happened

    def ended(self, sweep: Sweep, progress: Progress) -> None:
        """A sweep has ended. Returns at once."""
        self._spawn(self._sweep_ended(sweep, progress))

    def changed(self, changes: Changes) -> None:
        """A step was saved. Returns at once."""
        if not self.channels:
            return
        wanted = [pair for job in changes.jobs if job.state in FINAL for pair in self._of_job(job)]
        wanted += [pair for facts in self._of_nodes(changes) for pair in self._of_rack(facts)]
        if wanted:
            self._spawn(self._add(wanted))

    def _of_job(self, job: Job) -> list[Wanted]:
        if job.spec.runner_of is not None:
            return []
        end = notices.end_of(job)
        names = [name for name, ends in _asked(job.spec.notify) if name in self.channels and end in (ends or _ALL)]
        if not job.spec.notify:
            names = [name for name, channel in self.channels.items() if channel.jobs == "all" and end in channel.when]
        facts = notices.of_job(job, self.web_address) if names else {}
        return [(name, facts) for name in dict.fromkeys(names)]

    def _of_rack(self, facts: Facts) -> list[Wanted]:
        return [(name, facts) for name, channel in self.channels.items() if channel.rack]

    def _of_nodes(self, changes: Changes) -> Iterable[Facts]:
        now = time.time()
        for power in changes.power:
            node = self._state.nodes.get(power.node)
            is_new = power.phase is Phase.SET_ASIDE and power.node not in self._set_aside
            if is_new and node is not None:
                yield notices.of_node(node, "set_aside", f"set aside: {power.why}", now, self.web_address)
        for attempt in changes.attempts:
            node = self._state.nodes.get(attempt.node)
            if attempt.state is not JobState.LOST or node is None or node.connected:
                continue
            if self._lost.get(node.name) != node.connection_since_s:
                self._lost[node.name] = node.connection_since_s
                sentence = f"lost: {node.connection_reason}; its jobs run elsewhere"
                yield notices.of_node(node, "lost", sentence, now, self.web_address)
        for node in changes.nodes:
            known = self._gpus_set_aside.get(node.name, frozenset())
            for gpu in node.inventory.set_aside if node.inventory is not None else ():
                if gpu.uuid not in known:
                    yield notices.of_node(node, "gpu", f"{gpu.sentence}; it is set aside", now, self.web_address)
        self._see_nodes(self._state)

    def _see_nodes(self, state: State) -> None:
        """Know what is set aside now, so that only what is new is told."""
        self._set_aside = {name for name, power in state.power.items() if power.phase is Phase.SET_ASIDE}
        self._gpus_set_aside = {
            name: frozenset(gpu.uuid for gpu in node.inventory.set_aside)
            for name, node in state.nodes.items()
            if node.inventory is not None
        }

    async def _sweep_ended(self, sweep: Sweep, progress: Progress) -> None:
        """Put its end into the outbox, and note that it is there, in one transaction."""
        names = self.chosen(sweep, progress)
        facts: Facts = {}
        if names:
            best = await self._store.read(lambda connection: _best(connection, sweep, progress))
            facts = notices.of_sweep(sweep, progress, best, self.web_address)

        def save(connection: sqlite3.Connection) -> None:
            outbox.add(connection, [(name, facts) for name in names], time.time())
            connection.execute("UPDATE sweeps SET told = 1 WHERE id = ?", (sweep.id,))

        await self._store.write(save)
        self._wake(names)

    def chosen(self, sweep: Sweep, progress: Progress) -> list[str]:
        """The channels that are to be told of the end of a sweep."""
        named = [name for name in sweep.sweep.notify if name in self.channels]
        if not sweep.sweep.notify:
            named = [name for name, channel in self.channels.items() if channel.of_all]
        return [name for name in named if str(progress.state) in self.channels[name].when]

    async def _add(self, wanted: Sequence[Wanted]) -> None:
        await self._store.write(lambda connection: outbox.add(connection, wanted, time.time()))
        self._wake(name for name, _ in wanted)

    def _wake(self, names: Iterable[str]) -> None:
        for name in set(names):
            if name in self._news:
                self._news[name].set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._written(work))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _written(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreError as error:  # ends are looked for again at the next start
            log.error("no notices are sent before the next start: %s", error)

    # Sending

    async def _send_all(self, name: str) -> None:
        """Send what one channel does not have, for ever."""
        failures, pruned_s = 0, time.monotonic()
        while True:
            if failures:
                await asyncio.sleep(min(WAIT_S_MAX, self.first_wait_s * 4.0 ** (failures - 1)))
            else:
                await self._waited(name)
            try:
                await self._until_loud(name)
                failures = 0 if await self._send(name) else failures + 1
                if time.monotonic() - pruned_s > PRUNE_EVERY_S:
                    pruned_s = time.monotonic()
                    await self._store.write(lambda connection: outbox.prune(connection, self.channels, time.time()))
            except StoreError as error:
                log.error("channel=%s the outbox cannot be used: %s; retrying", name, error)
                failures += 1

    async def _waited(self, name: str) -> None:
        """Until there is something new, and what comes with it has come."""
        news = self._news[name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PRUNE_EVERY_S):
                await news.wait()
                await asyncio.sleep(self.gather_s)
        news.clear()

    async def _until_loud(self, name: str) -> None:
        """Until the channel's quiet hours are over."""
        while (until_s := quiet_until_s(self.channels[name], time.time())) is not None:
            await asyncio.sleep(max(1.0, min(60.0, until_s - time.time())))

    async def _send(self, name: str) -> bool:
        """Send everything that is pending; whether it worked. Raises StoreError."""
        while waiting := await self._store.read(lambda connection: outbox.pending(connection, name, BATCH)):
            if len(waiting) > ALONE_MAX:
                parts = [(notices.digest([one.facts for one in waiting]), [one.number for one in waiting])]
            else:
                parts = [(one.facts, [one.number]) for one in waiting]
            for facts, numbers in parts:
                if not await self._told(name, facts):
                    return False
                await self._store.write(partial(outbox.settle, numbers=numbers, now_s=time.time()))
        return True

    async def _told(self, name: str, facts: Facts) -> bool:
        """Whether a notice is settled: sent, or refused for good."""
        try:
            async with self._gate:
                await tell(self.channels[name], facts)
        except NotTold as error:
            log.warning(
                "channel=%s %s: %s%s", name, facts["key"], error, "; giving up" if error.is_final else "; retrying"
            )
            return error.is_final
        log.info("channel=%s %s: sent", name, facts["key"])
        return True


_ALL = ("done", "failed", "cancelled")


def _asked(words: Sequence[str]) -> list[tuple[str, str]]:
    """`NAME` or `NAME:failed` -> (name, end); the end is empty for all of them."""
    return [(name, end) for name, _, end in (word.partition(":") for word in words)]


def _best(connection: sqlite3.Connection, sweep: Sweep, progress: Progress) -> Facts | None:
    rows = ranking.rank(connection, sweep, progress, count=1).rows
    return rows[0] if rows else None


def _untold(connection: sqlite3.Connection, since_s: float) -> list[tuple[Sweep, Progress]]:
    return ledger.sweeps_where(connection, "told = 0 AND ended_at_s >= ?", (since_s,), OLDEST_MAX)[::-1]


def _ended_jobs(connection: sqlite3.Connection, since_s: float) -> list[Job]:
    return jobs_where(connection, "ended_at_s >= ?", (since_s,), OLDEST_MAX, newest="ended_at_s")[::-1]
