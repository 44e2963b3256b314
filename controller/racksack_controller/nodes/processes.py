"""Runs a helper program of the controller (rsync, ssh) to its end, and leaves none behind when it is given up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence

from racksack_controller.nodes.transport import Completed

OUTPUT_BYTES_MAX = 1024**2


Extend = Callable[[asyncio.Timeout, int], Coroutine[None, None, None]]


async def run(
    argv: Sequence[str | bytes], env: Mapping[str, str], timeout_s: float | None = None, extend: Extend | None = None
) -> Completed:
    """Run a program in its own session, without input. Raises OSError when it cannot start, TimeoutError.

    `extend` gets the time limit and the process id, and may put the limit off for as long as the program runs.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - asked for above
    assert process.stderr is not None  # noqa: S101
    extending: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(timeout_s) as limit:
            if extend is not None:
                extending = asyncio.create_task(extend(limit, process.pid))
            stdout, stderr, _ = await asyncio.gather(_tail(process.stdout), _tail(process.stderr), process.wait())
    except BaseException:
        await _end(process)
        raise
    finally:
        if extending is not None:
            extending.cancel()
    assert process.returncode is not None  # noqa: S101 - it was waited for
    return Completed(process.returncode, stdout, stderr)


async def _tail(stream: asyncio.StreamReader) -> bytes:
    """All that comes, or its end where that is very much."""
    kept = bytearray()
    while data := await stream.read(65536):
        kept += data
        del kept[:-OUTPUT_BYTES_MAX]
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)  # its group: rsync has a second process and an ssh
        await process.wait()


def plain_environment() -> dict[str, str]:
    """What helper programs see: the way to programs and keys, and English messages."""
    kept = ("PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR", "XDG_RUNTIME_DIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def last_line(output: bytes) -> str:
    """The last line that says something, for a message."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
