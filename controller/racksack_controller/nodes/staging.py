"""Brings project content to a node: once per node and content, however many jobs wait for it.

Content of up to INLINE_BYTES_MAX travels inside a request; more by the transport into `incoming/<digest>`, which the
agent checks against the digest and adopts. A transfer that broke off resumes there.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections import deque
from pathlib import Path

import msgspec

from racksack_controller.nodes.agent_answers import SMALL_BYTES_MAX, Ask
from racksack_controller.nodes.errors import AgentError, TransferFailed
from racksack_controller.nodes.node import Sent
from racksack_controller.nodes.transport import Transport
from racksack_controller.nodes.unpack import pack

INLINE_BYTES_MAX = 256 * 1024
INLINE_ENTRIES_MAX = 500
ALIKE_MAX = 4  # so many earlier contents rsync looks for equal files in
HAS_TIMEOUT_S, PUT_TIMEOUT_S, ADOPT_TIMEOUT_S = 3600.0, 120.0, 3600.0  # content may have to be read whole


class Stager:
    """What is known to be on one node during one connection, and the transfers under way to it."""

    def __init__(self, name: str, transport: Transport, home: str, ask: Ask) -> None:
        self._name = name
        self._transport = transport
        self._home = home
        self._ask = ask
        self._present: set[str] = set()
        self._pushed: deque[str] = deque(maxlen=ALIKE_MAX)
        self._under_way: dict[str, asyncio.Task[Sent | None]] = {}

    async def stage(self, digest: str, source: Path) -> Sent | None:
        """See Node.stage. Whoever asks for the same content meanwhile waits for the same transfer."""
        if digest in self._present:
            return None
        task = self._under_way.get(digest)
        if task is None:
            task = asyncio.create_task(self._bring(digest, source), name=f"stage {digest[:12]} on {self._name}")
            self._under_way[digest] = task
            task.add_done_callback(lambda done: self._finish(digest, done))
        return await asyncio.shield(task)

    def _finish(self, digest: str, task: asyncio.Task[Sent | None]) -> None:
        self._under_way.pop(digest, None)
        if not task.cancelled() and task.exception() is None:
            self._present.add(digest)

    def forget(self, digest: str) -> None:
        """Ask the node again next time: a launch failed, perhaps because the content was pruned."""
        self._present.discard(digest)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring(self, digest: str, source: Path) -> Sent | None:
        if digest in await self._ask("has", {"digests": [digest]}, HAS_TIMEOUT_S, list[str], SMALL_BYTES_MAX):
            return None
        try:
            archive = await asyncio.to_thread(_packed, source)
        except OSError as error:
            sentence = f"The snapshot {digest[:12]} cannot be read ({error}); submit the job again."
            raise TransferFailed(sentence, "missing") from error
        if archive is None:
            began_s = time.monotonic()
            await self._push(digest, source)
            return Sent(await asyncio.to_thread(_size_of, source), time.monotonic() - began_s)
        text = base64.b64encode(archive).decode()
        await self._ask("put", {"digest": digest, "tar_b64": text}, PUT_TIMEOUT_S, msgspec.Raw, SMALL_BYTES_MAX)
        return None

    async def _push(self, digest: str, source: Path) -> None:
        remote = f"{self._home}/incoming/{digest}"
        alike = [f"{self._home}/snapshots/{other}" for other in self._pushed]
        await self._transport.push(source, remote, alike)
        try:
            await self._adopt(digest)
        except AgentError as error:
            if error.kind != DIFFERS:
                raise
            # What lay there from an earlier try looked right by size and time, and was not: compare all of it.
            await self._transport.push(source, remote, (), verify=True)
            await self._adopt(digest)
        self._pushed.append(digest)

    async def _adopt(self, digest: str) -> None:
        arguments: dict[str, object] = {"digest": digest, "incoming": digest}
        await self._ask("adopt", arguments, ADOPT_TIMEOUT_S, msgspec.Raw, SMALL_BYTES_MAX)


DIFFERS = "digest"  # the agent's word for content that is not what it should be


def _packed(source: Path) -> bytes | None:
    """The content as an archive if it is small. Raises OSError."""
    return pack(source) if _is_small(source) else None


def _size_of(source: Path) -> int:
    return sum(path.lstat().st_size for path in source.rglob("*") if not path.is_dir())


def _is_small(source: Path) -> bool:
    """Whether the content fits into a request. Raises OSError."""
    size, entries = 0, 0
    pending = [os.fsencode(source)]
    while pending:
        with os.scandir(pending.pop()) as found:
            for entry in found:
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    size += entry.stat(follow_symlinks=False).st_size
                if size > INLINE_BYTES_MAX or entries > INLINE_ENTRIES_MAX:
                    return False
    return True
