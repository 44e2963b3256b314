"""Checkpoints on the controller: brought from nodes into `checkpoints/<job>/<digest>/`, whole or not at all.

One is received beside its place and renamed when its digest was found right and it is on disk, so that a power cut at
any moment leaves the one before. Files that are as in the one before are linked to it.
"""

from __future__ import annotations

import asyncio
import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from racksack_controller.core import events as ev
from racksack_controller.core.records import Checkpoint
from racksack_controller.core.state import Attempt, Job
from racksack_controller.nodes.errors import AgentError, NodeError, TransferFailed
from racksack_controller.nodes.node import CheckpointOrder, Node
from racksack_controller.turns import KeyedLocks
from racksack_jobspecs import durable
from racksack_jobspecs.layout import Spool

FREE_SHARE_MIN = 0.05  # of the controller's disk: no checkpoint takes that
_RECEIVING = ".receiving"
_LINK = ".racksack-link"
_GONE = ".gone-"


class Checkpoints:
    """Brings them, one at a time of each job."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._locks = KeyedLocks()

    async def bring(self, node: Node, job: Job, attempt: Attempt) -> ev.Event:
        """Bring the newest of an attempt; what came of it."""
        try:
            async with self._locks.alone_with(job.id):
                brought = await self._bring(node, job, attempt)
        except NodeError as error:
            return ev.CheckpointFailed(attempt.key, str(error))
        except OSError as error:
            return ev.CheckpointFailed(attempt.key, f"it could not be stored on the controller: {error}")
        return ev.CheckpointBrought(attempt.key, brought)

    async def bring_last(self, node: Node, job: Job, attempt: Attempt) -> tuple[ev.Event | None, str, bool]:
        """Bring the last one of an attempt that has ended: the event to post, a note, and whether to try again later
        first. One that is gone or damaged is done without: the one before stands.
        """
        if not attempt.pull.is_due:
            return None, "", False
        try:
            async with self._locks.alone_with(job.id):
                brought = await self._bring(node, job, attempt)
        except TransferFailed as error:
            passing = error.kind not in ("damaged", "missing")
            return None, f"its last checkpoint did not come: {error}", passing
        except (AgentError, OSError) as error:
            return None, f"its last checkpoint did not come: {error}", False
        return ev.CheckpointBrought(attempt.key, brought), "", False

    async def _bring(self, node: Node, job: Job, attempt: Attempt) -> Checkpoint:
        """Raises NodeError, TransferFailed, OSError."""
        newest = attempt.pull.newest
        folder = self._spool.checkpoints / str(job.id)
        await asyncio.to_thread(_make_room, folder, newest.bytes if newest is not None else 0)
        kept = [one.digest for one in job.checkpoints]
        alike = [folder / digest for digest in reversed(kept) if (folder / digest).is_dir()]
        found = await node.pull_checkpoint(attempt.key, folder / _RECEIVING, alike[:1])
        await asyncio.to_thread(_put_in_place, folder, found.digest, kept)
        return Checkpoint(
            number=found.number,
            digest=found.digest,
            files=found.files,
            bytes=found.bytes,
            taken_at_s=found.taken_at_s,
            attempt=attempt.number,
        )


def _make_room(folder: Path, wanted_bytes: int) -> None:
    """Make the folder of a job. Raises TransferFailed when its checkpoint would fill the disk, OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    disk = shutil.disk_usage(folder)
    if disk.free - wanted_bytes < disk.total * FREE_SHARE_MIN:
        raise TransferFailed("the controller's disk has no room for it; free space there.", "disk_full")


def _put_in_place(folder: Path, digest: str, kept: Sequence[str]) -> None:
    """Rename what was received, when it is on disk, and remove those that nothing refers to. Raises OSError."""
    received = folder / _RECEIVING
    if (folder / digest).exists():
        remove(received)
    else:
        received.chmod(0o700)
        for other in kept:
            _share(received, folder / other)
        durable.sync_file_system(received)
        received.rename(folder / digest)
    durable.sync_folder(folder)
    for name in os.listdir(folder):  # noqa: PTH208
        if name not in (*kept, digest):
            remove(folder / name)


def _share(received: Path, other: Path) -> None:
    """Let files that are the same in both be one. Raises OSError."""
    for path in received.rglob("*"):
        twin = other / path.relative_to(received)
        if path.is_symlink() or not path.is_file() or twin.is_symlink() or not twin.is_file():
            continue
        mine, theirs = path.stat(), twin.stat()
        is_other = mine.st_ino != theirs.st_ino and (mine.st_size, mine.st_mode) == (theirs.st_size, theirs.st_mode)
        if is_other and filecmp.cmp(path, twin, shallow=False):
            beside = received / _LINK
            beside.hardlink_to(twin)
            beside.rename(path)


def remove(path: Path) -> None:
    """Remove a checkpoint, renamed first: half of one is never taken for one. Raises OSError."""
    gone = path.with_name(_GONE + path.name)
    if gone.exists():
        shutil.rmtree(gone)
    if path.exists():
        path.rename(gone)
        shutil.rmtree(gone)


def checkpoint_order(job: Job, attempt: Attempt) -> CheckpointOrder | None:
    """What a node is told of a job's checkpoints; None for a job that saves nothing."""
    if not job.spec.checkpoint:
        return None
    return CheckpointOrder(
        job.spec.checkpoint,
        job.spec.checkpoint_every_s,
        job.checkpoints[-1].digest if job.checkpoints else "",
        job.spec.resubmit_on,
        saves=attempt.rank == 0,
    )
