"""A few sandbox processes for everybody, users in turn.

A user has one computation under way at a time, so heavy ones of one user delay that user alone. Those whose
computations took long lately share all processes but a reserve, so that several heavy users together do not hold up
the short ones of the others. One process stays ready for the next job file; others start when they are needed and end
after a while without work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field

from racksack_controller.sandbox.process import BusyError, SandboxProcess
from racksack_controller.sandbox.wire import Request

log = logging.getLogger("racksack.sandbox")

PROCESSES_MAX = 6
RESERVE = 2  # processes that users of the short kind alone may have
LONG_S = 2.0  # a computation that lasts longer makes its user one of the long kind
LONG_FOR_S = 600.0  # for so long
WAITING_MAX = 2000  # computations of one user
WAITING_BYTES_MAX = 32 * 1024**2  # of what they are about
IDLE_S = 30.0


@dataclass
class _Wanted:
    user: str
    request: Request
    answer: asyncio.Future[bytes] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    task: asyncio.Task[None] | None = None


class Sandbox:
    """The processes and those who wait for one."""

    def __init__(self, processes: int = PROCESSES_MAX) -> None:
        self._most = processes
        self._idle: list[SandboxProcess] = []
        self._working: dict[str, asyncio.Task[None]] = {}  # by user
        self._long_until_s: dict[str, float] = {}  # users of the long kind
        self._waiting: OrderedDict[str, deque[_Wanted]] = OrderedDict()  # users in the order of their turns
        self._ending: dict[SandboxProcess, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def warm_up(self) -> None:
        """Have one process ready. That none can be started now is no error: the first request tries again."""
        with suppress(BusyError):
            self._put_back(await SandboxProcess.start())

    async def compute(
        self, user: str, operation: str, payload: bytes, *, cpu_s: float = 10.0, memory_bytes: int = 512 * 1024**2
    ) -> bytes:
        """What an operation gives. When whoever asks is cancelled, the computation ends too.

        Raises RefusedError, TooMuchError, FaultError and BusyError.
        """
        waiting = self._waiting.setdefault(user, deque())
        if self._is_closed:
            raise BusyError("the controller is stopping")
        if len(waiting) >= WAITING_MAX:
            raise BusyError(f"{WAITING_MAX} of your requests are already waiting")
        if waiting and sum(len(one.request.payload) for one in waiting) + len(payload) > WAITING_BYTES_MAX:
            raise BusyError(f"{WAITING_BYTES_MAX >> 20} MiB of your requests are already waiting")
        wanted = _Wanted(user, Request(operation, payload, cpu_s, memory_bytes))
        waiting.append(wanted)
        self._begin()
        try:
            return await wanted.answer
        finally:
            if wanted.task is not None:
                wanted.task.cancel()
            else:
                self._withdraw(wanted)

    async def close(self) -> None:
        """End all processes, whatever they do."""
        self._is_closed = True
        for queue in self._waiting.values():
            for wanted in queue:
                wanted.answer.cancel()
        tasks = [*self._working.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for timer in self._ending.values():
            timer.cancel()
        await asyncio.gather(*self._closing, *(process.close() for process in self._idle), return_exceptions=True)

    def _begin(self) -> None:
        """Let users in turn have the processes that are free."""
        for user in list(self._waiting):
            if len(self._working) >= self._most:
                return
            queue = self._waiting[user]
            if user in self._working or not queue or (self._is_long(user) and not self._has_room_for_long()):
                continue
            wanted = queue.popleft()
            self._waiting.move_to_end(user)
            if not queue:
                del self._waiting[user]
            wanted.task = self._working[user] = asyncio.create_task(self._work(wanted))

    def _is_long(self, user: str) -> bool:
        return self._long_until_s.get(user, 0.0) > time.monotonic()

    def _has_room_for_long(self) -> bool:
        return sum(map(self._is_long, self._working)) < self._most - RESERVE

    def _note(self, user: str, took_s: float) -> None:
        """Remember whose computations are long; those that were long ago are forgotten."""
        now_s = time.monotonic()
        if took_s > LONG_S:
            self._long_until_s[user] = now_s + LONG_FOR_S
        self._long_until_s = {user: until_s for user, until_s in self._long_until_s.items() if until_s > now_s}

    async def _work(self, wanted: _Wanted) -> None:
        process: SandboxProcess | None = None
        began_s = time.monotonic()
        try:
            process = self._take_idle() or await SandboxProcess.start()
            answer = await process.ask(wanted.request)
        except asyncio.CancelledError:
            wanted.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            if not wanted.answer.done():
                wanted.answer.set_exception(error)
        else:
            if not wanted.answer.done():
                wanted.answer.set_result(answer)
        finally:
            del self._working[wanted.user]
            self._note(wanted.user, time.monotonic() - began_s)
            if process is not None:
                self._put_back(process)
            if not self._is_closed:
                self._begin()

    def _withdraw(self, wanted: _Wanted) -> None:
        queue = self._waiting.get(wanted.user)
        if queue is not None:
            with suppress(ValueError):
                queue.remove(wanted)
            if not queue:
                del self._waiting[wanted.user]

    def _take_idle(self) -> SandboxProcess | None:
        if not self._idle:
            return None
        process = self._idle.pop()
        timer = self._ending.pop(process, None)
        if timer is not None:
            timer.cancel()
        return process

    def _put_back(self, process: SandboxProcess) -> None:
        if self._is_closed or not process.is_usable:
            self._let_end(process)
            return
        self._idle.append(process)
        self._ending[process] = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle, process)

    def _end_idle(self, process: SandboxProcess) -> None:
        self._ending.pop(process, None)
        if process in self._idle and len(self._idle) > 1:
            self._idle.remove(process)
            self._let_end(process)

    def _let_end(self, process: SandboxProcess) -> None:
        task = asyncio.get_running_loop().create_task(process.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
