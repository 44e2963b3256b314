"""Runs a blocking library without ever blocking the event loop, other drivers or the shutdown.

One call at a time for each worker, each in a daemon thread of its own: a thread that hangs is left behind, the caller
gets its `TimeoutError` in time, the next call gets a fresh thread, and the process can end. (A ThreadPoolExecutor joins
its threads when the interpreter exits, so one hung BMC would hold up the shutdown.)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

LEFT_BEHIND_MAX = 3


class Worker:
    """A lane for the blocking calls to one device."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lane = asyncio.Lock()
        self._left_behind: list[threading.Thread] = []

    async def call(self, function: Callable[[], T], timeout_s: float, late: Callable[[], object] | None = None) -> T:
        """The result of `function()`, run in a thread; waiting for the lane counts towards `timeout_s`.

        Raises TimeoutError, or what the function raises. If the caller stopped waiting, `late` runs in the thread
        once the function is through, to let go of what it held.
        """
        async with asyncio.timeout(timeout_s), self._lane:
            self._left_behind = [thread for thread in self._left_behind if thread.is_alive()]
            if len(self._left_behind) >= LEFT_BEHIND_MAX:
                raise TimeoutError(f"{LEFT_BEHIND_MAX} earlier calls have not returned yet")
            result: T = await self._run(_Call(function, late, asyncio.get_running_loop()))
            return result

    async def _run(self, call: _Call) -> Any:  # noqa: ANN401 - the type is the caller's, see call()
        thread = threading.Thread(target=call.carry_out, daemon=True, name=f"power-{self._name}")
        thread.start()
        try:
            return await call.outcome
        except asyncio.CancelledError:
            call.abandon()
            self._left_behind.append(thread)
            raise


class _Call:
    """One call: carried out in a thread, waited for in the loop, perhaps abandoned."""

    def __init__(
        self,
        function: Callable[[], Any],
        late: Callable[[], object] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.outcome: asyncio.Future[Any] = loop.create_future()
        self._function = function
        self._late = late
        self._loop = loop
        self._lock = threading.Lock()
        self._abandoned = False
        self._finished = False

    def abandon(self) -> None:
        """Nobody waits any more. A call that had just finished lets go in a thread of its own."""
        with self._lock:
            self._abandoned = True
            finished = self._finished
        if finished and self._late is not None:
            threading.Thread(target=self._late, daemon=True).start()

    def carry_out(self) -> None:
        """Run the function and hand its result to the loop, if that still wants it."""
        result, error = None, None
        try:
            result = self._function()
        except BaseException as problem:  # noqa: BLE001 - handed on to the waiting caller, whatever it is
            error = problem
        with self._lock:
            self._finished = True
            abandoned = self._abandoned
        if abandoned:
            if self._late is not None:
                self._late()
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver, result, error)
        except RuntimeError:
            return  # The loop was closed meanwhile: the process is on its way out and nobody waits.

    def _deliver(self, result: object, error: BaseException | None) -> None:
        if self.outcome.done():
            return
        if error is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)
