"""Time that passes only when nothing is left to do, and an event loop that lives in it.

Work for threads is done at once, in the one thread there is, and takes as long as the seed says. So a run is the same
each time: nothing in it depends on how fast this machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from random import Random
from typing import Any
from unittest import mock

from racksack_controller.loop import Loop as ControllerLoop

EPOCH_S = 1_750_000_000.0  # Unix time at which a simulation begins
THREAD_S = (0.0002, 0.02)  # what work in a thread takes


class StandstillError(Exception):
    """Nothing will ever happen again."""


class Clock:
    """Seconds since the beginning, and a wall clock that may be set wrong."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.wall_offset_s = 0.0

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self.now_s

    def wall(self) -> float:
        """Unix time as the machine of the controller has it."""
        return EPOCH_S + self.now_s + self.wall_offset_s

    @contextlib.contextmanager
    def rules(self) -> Iterator[None]:
        """What Python's `time` says is this clock."""
        with (
            mock.patch.object(time, "time", self.wall),
            mock.patch.object(time, "monotonic", self.monotonic),
            mock.patch.object(time, "perf_counter", self.monotonic),
            mock.patch.dict(ControllerLoop.__init__.__kwdefaults__, clock=self.wall, steady=self.monotonic),
        ):
            yield


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: the time until the next timer is skipped."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; else let time pass."""
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            raise StandstillError("no timer is set and nothing is under way")
        self._clock.now_s += max(0.0, timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop in simulated time."""

    def __init__(self, clock: Clock, chance: Random) -> None:
        super().__init__(_Selector(clock))
        self._sim_clock, self._chance = clock, chance
        self.usual = chance.choice((1.0, 1.0, 5.0, 20.0))  # how many times as long work in threads takes: of this disk
        self.slow = self.usual

    def time(self) -> float:
        """Simulated seconds."""
        return self._sim_clock.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Do it a moment later, and say so another moment later; in between a crash may come."""
        answer: asyncio.Future[Any] = self.create_future()
        self.call_later(self._moment(), self._work, answer, func, args)
        return answer

    def _moment(self) -> float:
        return self._chance.uniform(*THREAD_S) * self.slow

    def _work(self, answer: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if answer.cancelled():
            return
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            self.call_later(self._moment(), _settle, answer, None, error)
        else:
            self.call_later(self._moment(), _settle, answer, result, None)


def _settle(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
