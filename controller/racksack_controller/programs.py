"""Runs a helper program (rsync, ssh, a power script) to its end, or talks with one; none is left behind.

The program's end is what the kernel says of it, not the end of its output: a process that left its group may hold the
output open for as long as it likes. The master connection of ssh does, while the far side stands still.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Literal, NamedTuple

OUTPUT_BYTES_MAX = 1024**2
LINE_BYTES_MAX = 1024**2
LINGER_S = 1.0  # how long output is read after the program's own end
DEATH_S = 5.0  # how long the kernel may take to end what was killed

Extend = Callable[[asyncio.Timeout, int], Coroutine[None, None, None]]


class Ended(NamedTuple):
    """How a program ended: its exit code (below zero: a signal), and what it said."""

    exit_code: int
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str | bytes],
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    *,
    cwd: str | os.PathLike[str] | None = None,
    keep: Literal["first", "last"] = "last",
    extend: Extend | None = None,
) -> Ended:
    """Run a program in its own session, without input. Raises OSError when it cannot start, TimeoutError.

    keep: which OUTPUT_BYTES_MAX of a long output. `extend` gets the time limit and the process id, and may put the
    limit off for as long as the program runs.
    """
    loop = asyncio.get_running_loop()
    starting = loop.subprocess_exec(
        lambda: _Watch(loop, keep),
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if env is None else dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    transport, watch = await _started(asyncio.ensure_future(starting))
    extending: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(timeout_s) as limit:
            if extend is not None:
                extending = asyncio.create_task(extend(limit, transport.get_pid()))
            await asyncio.wait({watch.exited})  # `wait` leaves the future as it is when we are cancelled
        await asyncio.wait({watch.closed}, timeout=LINGER_S)
    finally:
        if extending is not None:
            extending.cancel()
        await _end(transport, watch)
    return Ended(transport.get_returncode() or 0, bytes(watch.output[1]), bytes(watch.output[2]))


async def _started(
    starting: asyncio.Future[tuple[asyncio.SubprocessTransport, _Watch]],
) -> tuple[asyncio.SubprocessTransport, _Watch]:
    """The program once it runs. When we are cancelled meanwhile it may run already: its group is ended first."""
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        if starting.exception() is None:
            await _end(*starting.result())
        raise


async def _end(transport: asyncio.SubprocessTransport, watch: _Watch) -> None:
    """Kill the program's group if it still runs; let go of its pipes."""
    if not watch.exited.done():
        os.killpg(transport.get_pid(), signal.SIGKILL)  # its group: rsync has a second process and an ssh
        await asyncio.wait({watch.exited}, timeout=DEATH_S)
    transport.close()
    await asyncio.wait({watch.closed}, timeout=DEATH_S)


class Talking(asyncio.subprocess.SubprocessStreamProtocol):
    """A program that is spoken with over its pipes for longer; made by `talk`."""

    process: asyncio.subprocess.Process
    transport: asyncio.SubprocessTransport

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self._exited: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()

    def process_exited(self) -> None:
        """The program itself ended; others may still hold its output."""
        super().process_exited()
        _resolve(self._exited)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended, and nobody holds its output."""
        super().connection_lost(exc)
        _resolve(self._gone)

    async def end(self, patience_s: float) -> None:
        """Close its input, at which it should end; kill it when it does not within `patience_s`."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        await asyncio.wait({self._exited}, timeout=patience_s)
        if not self._exited.done():
            self.transport.kill()
            await asyncio.wait({self._exited}, timeout=DEATH_S)
        self.transport.close()
        await asyncio.wait({self._gone}, timeout=DEATH_S)


async def talk(
    argv: Sequence[str], env: Mapping[str, str], *, cwd: str | None = None, stderr: int = asyncio.subprocess.PIPE
) -> Talking:
    """Start a program with pipes, in its own session. Raises OSError."""
    loop = asyncio.get_running_loop()
    transport, talking = await loop.subprocess_exec(
        lambda: Talking(LINE_BYTES_MAX, loop),
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    talking.transport = transport
    talking.process = asyncio.subprocess.Process(transport, talking, loop)
    return talking


class _Watch(asyncio.SubprocessProtocol):
    """Keeps the output; knows when the program ended and when its pipes are closed too."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keep: Literal["first", "last"]) -> None:
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.output = {1: bytearray(), 2: bytearray()}
        self._keep = keep

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep the first or the last of it; all is read, so that the program does not block."""
        kept = self.output[fd]
        if self._keep == "first":
            kept += data[: max(0, OUTPUT_BYTES_MAX - len(kept))]
        else:
            kept += data
            del kept[:-OUTPUT_BYTES_MAX]

    def process_exited(self) -> None:
        """The program itself ended; others may still hold its output."""
        _resolve(self.exited)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended, and nobody holds its output."""
        _resolve(self.closed)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
