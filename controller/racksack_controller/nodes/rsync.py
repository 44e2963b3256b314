"""Copies folders with rsync, and says in one sentence why it did not work.

Names reach the far side without a shell (-s); what came stays (--partial), so the same copy resumes; no progress for
`STALL_S` ends it; a link that arrives here is munged (see `links.py`).
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from pathlib import Path

from racksack_controller.nodes.errors import HostKeyChanged, NodeUnusable, TransferFailed
from racksack_controller.nodes.openssh import ALIAS
from racksack_controller.nodes.processes import last_line, plain_environment, run
from racksack_controller.nodes.transport import Announced, Completed

STALL_S = 60
LOOK_EVERY_S = 1.0
STOOD_STILL = 35  # rsync's own code for a connection that does not come about in time
TOO_MUCH = 1000  # ours; no exit code is as high
MARGIN_BYTES = 16 * 1024**2  # beside the files: the list of names, what a resumed file is compared with
MARGIN_BYTES_EACH = 8 * 1024
_COMMON = ("-rltE", "-s", "--partial", "--delete", "--chmod=Du+rwx,Fu+rw", "-q")


async def push(rsh: str, name: str, source: Path, remote: str, alike: Sequence[str], verify: bool) -> None:
    """Make `remote` on the node like `source`. Raises TransferFailed, NodeUnusable, HostKeyChanged."""
    options = [f"--link-dest={folder}" for folder in alike]
    if verify:
        options.append("--checksum")
    here, there = _folder(os.fsencode(source), source.is_dir()), _folder(os.fsencode(remote), source.is_dir())
    done = await _run(name, rsh, [*options, "--", here, ALIAS.encode() + b":" + there])
    _judge(done, name, f"Copying {source.name[:20]} to {name}", there=True)


async def pull(
    rsh: str, name: str, remote: str, target: Path, announced: Announced, alike: Sequence[Path] = ()
) -> None:
    """Make the folder `target` like the folder `remote` on the node. Raises as `push`.

    It is ended when much more arrives than was announced: a node must not fill the controller's disk or memory.
    """
    source = ALIAS.encode() + b":" + _folder(os.fsencode(remote), True)
    largest = f"--max-size={max(1, announced.bytes)}"
    most = 2 * announced.bytes + MARGIN_BYTES_EACH * announced.files + MARGIN_BYTES
    linked = [f"--link-dest={folder}" for folder in alike]
    there = _folder(os.fsencode(target), True)
    done = await _run(name, rsh, ["--munge-links", largest, *linked, "--", source, there], bytes_max=most)
    _judge(done, name, f"Fetching {remote} from {name}", there=False)


async def _run(name: str, rsh: str, arguments: Sequence[str | bytes], bytes_max: float = math.inf) -> Completed:
    command = ["rsync", *_COMMON, f"--timeout={STALL_S}", "-e", rsh, *arguments]
    watch = _Watch(STALL_S * 1.5, bytes_max)
    try:
        return await run(command, plain_environment(), watch.patience_s, extend=watch.look)
    except FileNotFoundError:
        raise NodeUnusable(f"The controller has no rsync, which {name} needs; install rsync here.") from None
    except TimeoutError:
        return Completed(TOO_MUCH if watch.too_much else STOOD_STILL, b"", b"")


class _Watch:
    """Looks at a running rsync: whether it gets on, and whether it moves more than it may."""

    def __init__(self, patience_s: float, bytes_max: float) -> None:
        self.patience_s = patience_s
        self.bytes_max = bytes_max
        self.too_much = False

    async def look(self, limit: asyncio.Timeout, pid: int) -> None:
        """Put the limit off while it reads something (its own --timeout does not hold in all its phases), or end it."""
        running = asyncio.get_running_loop()
        last = 0
        while not limit.expired():
            await asyncio.sleep(LOOK_EVERY_S)
            read, written = _moved(pid)
            if max(read, written) > self.bytes_max:
                self.too_much = True
                limit.reschedule(running.time())
                return
            if read != last:
                last = read
                limit.reschedule(running.time() + self.patience_s)


def _moved(pid: int) -> tuple[int, int]:
    """What this rsync and its helpers have read and written; its ssh does not count, keepalives are no progress."""
    import psutil

    read, written = 0, 0
    for one in _family(pid):
        try:
            process = psutil.Process(one)
            if process.name() == "rsync":
                moved = process.io_counters()
                read, written = read + moved.read_chars, written + moved.write_chars
        except psutil.Error:
            continue  # it just ended, which is news too
    return read, written


def _family(pid: int) -> list[int]:
    """A process and all below it. Asked of the kernel for each: a look at all processes would take the loop's time."""
    found, pending = [], [pid]
    while pending:
        one = pending.pop()
        found.append(one)
        try:
            pending += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except OSError:
            continue  # it just ended
    return found


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
            f"{what} was refused: {name} presents a different host key from the stored one. If it was reinstalled, "
            f"run `racksack node trust {name}` and compare the key it shows; otherwise it may be a man in the middle."
        )
    if done.exit_code == 127 or "rsync: command not found" in text or "rsync: not found" in text:
        raise NodeUnusable(f"{name} has no rsync; install the package rsync there.")
    if "is your shell clean?" in text:
        raise NodeUnusable(
            f"{name}: the login shell's start files print something, which rsync cannot work with; let them print only "
            "in interactive shells."
        )
    if done.exit_code == TOO_MUCH:
        raise TransferFailed(f"{what} was stopped: {name} sends much more than it reported.", "failed")
    if done.exit_code in (30, STOOD_STILL):
        raise TransferFailed(f"{what} made no progress for {STALL_S} s; it resumes where it stopped.", "stalled")
    if done.exit_code == 23 and "No such file or directory" in text:
        raise TransferFailed(f"{what} failed: {_first_error(text) or said}.", "missing")
    if done.exit_code in (10, 12, 255) or done.exit_code < 0:
        raise TransferFailed(
            f"{what} was interrupted ({_first_error(text) or said}); it resumes where it stopped.", "unreachable"
        )
    raise TransferFailed(f"{what} failed, rsync exit code {done.exit_code}: {_first_error(text) or said}.")


def _first_error(text: str) -> str:
    """The first message: rsync's last one only repeats the exit code."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
