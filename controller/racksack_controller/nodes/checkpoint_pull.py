"""Brings a checkpoint from a node: pulled, its links judged, and compared with its digest before it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from racksack_controller.nodes import copying, links
from racksack_controller.nodes.agent_answers import SMALL_BYTES_MAX, Ask, CheckpointAnswer
from racksack_controller.nodes.errors import TransferFailed
from racksack_controller.nodes.node import PulledCheckpoint
from racksack_controller.nodes.transport import Announced, Transport
from racksack_jobspecs.snapshot import digest_of, manifest_of

ASK_TIMEOUT_S = 60.0


async def pull(
    name: str, transport: Transport, home: str, ask: Ask, attempt: str, target: Path, alike: Sequence[Path]
) -> PulledCheckpoint:
    """See Node.pull_checkpoint."""
    found = await ask("checkpoint", {"attempt": attempt}, ASK_TIMEOUT_S, CheckpointAnswer, SMALL_BYTES_MAX)
    if found.path != f"{home}/attempts/{attempt}/checkpoints/{found.number}":
        raise TransferFailed(f"{name} named a folder that is not a checkpoint of {attempt}.", "failed")
    announced = Announced(found.files, found.bytes)
    try:
        await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
        await transport.pull(found.path, target, announced, alike)
        if not await asyncio.to_thread(_is, target, found.digest):
            # A file that looked the same by size and time was not, here or in `alike`.
            await asyncio.to_thread(copying.clear, target)
            await transport.pull(found.path, target, announced)
            if not await asyncio.to_thread(_is, target, found.digest):
                raise TransferFailed(f"The checkpoint {found.number} of {attempt} on {name} is damaged.", "damaged")
    except OSError as error:
        kind = copying.kind_of(error)
        full = "; free space there" if kind == "disk_full" else ""
        raise TransferFailed(f"A checkpoint could not be stored on the controller ({error}){full}.", kind) from error
    return PulledCheckpoint(found.number, found.digest, found.files, found.bytes, found.taken_at_s)


def _is(folder: Path, digest: str) -> bool:
    """Whether a folder has this content; its links are judged first. Runs in a thread. Raises OSError."""
    links.settle(folder)
    try:
        return digest_of(manifest_of(folder)) == digest
    except ValueError:
        return False
