"""Turns among users: so many at once in all, few of them of one user, so that nobody waits for another's heavy work."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """A semaphore that is fair among users."""

    def __init__(self, at_once: int, of_one: int) -> None:
        self._free, self._of_one = at_once, of_one
        self._having: dict[str, int] = {}
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = (
            OrderedDict()
        )  # users in the order of their turns

    @asynccontextmanager
    async def of(self, user: str) -> AsyncIterator[None]:
        """Wait for a turn of this user and have it for as long as the block lasts."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(turn)
        self._hand_out()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._give_back(user)
            else:
                self._withdraw(user, turn)

    def _hand_out(self) -> None:
        for user in list(self._waiting):
            if not self._free:
                return
            if self._having.get(user, 0) >= self._of_one:
                continue
            queue = self._waiting[user]
            turn = queue.popleft()
            self._waiting.move_to_end(user)
            if not queue:
                del self._waiting[user]
            if not turn.cancelled():
                self._free -= 1
                self._having[user] = self._having.get(user, 0) + 1
                turn.set_result(None)

    def _give_back(self, user: str) -> None:
        self._free += 1
        self._having[user] -= 1
        if not self._having[user]:
            del self._having[user]
        self._hand_out()

    def _withdraw(self, user: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(user)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[user]


class KeyedLocks:
    """A lock for each key, kept for as long as somebody has or awaits it."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def alone_with(self, key: Hashable) -> AsyncIterator[None]:
        """Nobody else is within such a block of this key."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)
