"""Waiting for news: long polls and the event stream hang here and are woken by each saved step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from racksack_controller.core.state import Changes

T = TypeVar("T")

STREAM_BACKLOG = 1000  # steps
SWEEP_NEWS_S = 1.0


class ChangeBus:
    """Tells whoever waits that a step was saved."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self._streams: set[asyncio.Queue[bytes]] = set()
        self._sweeps: dict[int, tuple[float, str]] = {}  # when the page was told last, and of which state

    def publish(self, changes: Changes) -> None:
        """A listener of the loop."""
        self._next.set()
        self._next = asyncio.Event()
        if self._streams:
            self._send(_lines(changes))

    def _send(self, lines: list[dict[str, object]]) -> None:
        """The same bytes for all: with many readers, a text for each would take the loop's time."""
        text = b"".join(b"data: %s\n\n" % msgspec.json.encode(line) for line in lines)
        for queue in self._streams if text else ():
            if not queue.full():  # a reader that fell this far behind reads the whole status again
                queue.put_nowait(text)

    def sweep_changed(self, sweep: int, state: str) -> None:
        """A sweep has got further. Told once a second at most while its state is the same."""
        now_s = time.monotonic()
        told_s, told = self._sweeps.get(sweep, (0.0, ""))
        if told == state and now_s - told_s < SWEEP_NEWS_S:
            return
        self._sweeps[sweep] = (now_s, state)
        self.nudge()
        self._send([{"kind": "sweep", "id": sweep, "state": state}])

    @property
    def has_readers(self) -> bool:
        """Whether a page is open."""
        return bool(self._streams)

    def nudge(self) -> None:
        """Something other than a step happened, such as a rejected file."""
        self._next.set()
        self._next = asyncio.Event()

    async def until(self, look: Callable[[], T | None], wait_s: float, *, every_s: float = 30.0) -> T | None:
        """The first result of `look` that is not None, looked for at each step; None after `wait_s`."""
        deadline = time.monotonic() + wait_s
        while True:
            upcoming = self._next
            found = look()
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                return found
            try:
                async with asyncio.timeout(min(left, every_s)):
                    await upcoming.wait()
            except TimeoutError:
                continue

    def open_stream(self) -> asyncio.Queue[bytes]:
        """A queue of what changes from now on, as server-sent events."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(STREAM_BACKLOG)
        self._streams.add(queue)
        return queue

    def close_stream(self, queue: asyncio.Queue[bytes]) -> None:
        """Its reader has gone."""
        self._streams.discard(queue)


def _lines(changes: Changes) -> list[dict[str, object]]:
    jobs: list[dict[str, object]] = [
        {"kind": "job", "id": job.id, "state": str(job.state), "name": job.spec.name} for job in changes.jobs
    ]
    return jobs + [{"kind": "node", "id": node.name, "connected": node.connected} for node in changes.nodes]
