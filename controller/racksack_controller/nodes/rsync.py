"""Copies folders with rsync, and says in one sentence why it did not work.

Names reach the far side without a shell (-s); what came stays (--partial), so the same copy resumes; no progress for
`STALL_S` ends it; a link that arrives here is munged (see `links.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from racksack_controller.nodes.errors import HostKeyChanged, NodeUnusable, TransferFailed
from racksack_controller.nodes.openssh import ALIAS
from racksack_controller.nodes.processes import last_line, plain_environment, run
from racksack_controller.nodes.transport import Completed

STALL_S = 60
STOOD_STILL = 35  # rsync's own code for a connection that does not come about in time
_COMMON = ("-rltE", "-s", "--partial", "--delete", "--chmod=Du+rwx,Fu+rw", "-q")


async def push(rsh: str, name: str, source: Path, remote: str, alike: Sequence[str], verify: bool) -> None:
    """Make `remote` on the node like `source`. Raises TransferFailed, NodeUnusable, HostKeyChanged."""
    options = [f"--link-dest={folder}" for folder in alike]
    if verify:
        options.append("--checksum")
    here, there = _folder(os.fsencode(source), source.is_dir()), _folder(os.fsencode(remote), source.is_dir())
    done = await _run(name, rsh, [*options, "--", here, ALIAS.encode() + b":" + there])
    _judge(done, name, f"Copying {source.name[:20]} to {name}", there=True)


async def pull(rsh: str, name: str, remote: str, target: Path) -> None:
    """Make the folder `target` like the folder `remote` on the node. Raises as `push`."""
    source = ALIAS.encode() + b":" + _folder(os.fsencode(remote), True)
    done = await _run(name, rsh, ["--munge-links", "--", source, _folder(os.fsencode(target), True)])
    _judge(done, name, f"Fetching {remote} from {name}", there=False)


async def _run(name: str, rsh: str, arguments: Sequence[str | bytes]) -> Completed:
    command = ["rsync", *_COMMON, f"--timeout={STALL_S}", "-e", rsh, *arguments]
    limit_s = STALL_S * 1.5
    try:
        return await run(command, plain_environment(), limit_s, extend=lambda limit, pid: _extend(limit, pid, limit_s))
    except FileNotFoundError:
        raise NodeUnusable(f"The controller has no rsync, which {name} needs; install rsync here.") from None
    except TimeoutError:
        return Completed(STOOD_STILL, b"", b"")


async def _extend(limit: asyncio.Timeout, pid: int, limit_s: float) -> None:
    """Put the limit off while rsync reads something: its own --timeout does not hold in all its phases."""
    last = 0
    await asyncio.sleep(limit_s / 10)  # most copies have ended by then
    while not limit.expired():
        if (now := _bytes_read(pid)) != last:
            last = now
            limit.reschedule(asyncio.get_running_loop().time() + limit_s)
        await asyncio.sleep(limit_s / 10)


def _bytes_read(pid: int) -> int:
    """What this rsync and its helpers have read (not what its ssh has, whose keepalives are no progress)."""
    import psutil

    total = 0
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            if one.name() == "rsync":
                total += one.io_counters().read_chars
    except psutil.Error:
        return total  # one of them just ended, which is news too
    return total


def _folder(path: bytes, is_folder: bool) -> bytes:
    return path.rstrip(b"/") + b"/" if is_folder else path


def _judge(done: Completed, name: str, what: str, there: bool) -> None:
    """Raise what the exit code and messages mean (rsync(1), EXIT VALUES)."""
    if done.exit_code == 0:
        return
    text, said = done.stderr.decode("utf-8", "replace"), last_line(done.stderr)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        where = name if there else "the controller"
        raise TransferFailed(f"{what} failed: the disk of {where} is full; free space there.", "disk_full")
    if "Host key verification failed" in text:
        raise HostKeyChanged(
            f"{what} was refused: {name} shows another host key than the stored one. If it was installed anew, compare "
            f"the keys and run `racksack node add {name}` again; otherwise somebody may be in between."
        )
    if done.exit_code == 127 or "rsync: command not found" in text or "rsync: not found" in text:
        raise NodeUnusable(f"{name} has no rsync; install the package rsync there.")
    if "is your shell clean?" in text:
        raise NodeUnusable(
            f"{name}: the login shell's start files print something, which rsync cannot work with; let them print only "
            "in interactive shells."
        )
    if done.exit_code in (30, STOOD_STILL):
        raise TransferFailed(f"{what} stood still for {STALL_S} s; it resumes where it stopped.", "stalled")
    if done.exit_code == 23 and "No such file or directory" in text:
        raise TransferFailed(f"{what} failed: {_first_error(text) or said}.", "missing")
    if done.exit_code in (10, 12, 255) or done.exit_code < 0:
        raise TransferFailed(
            f"{what} broke off ({_first_error(text) or said}); it resumes where it stopped.", "unreachable"
        )
    raise TransferFailed(f"{what} failed, rsync exit code {done.exit_code}: {_first_error(text) or said}.")


def _first_error(text: str) -> str:
    """The first message: rsync's last one only repeats the exit code."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
