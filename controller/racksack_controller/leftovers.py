"""Files that did not come back with a job and stayed on its node: bringing those that its owner asks for.

They are pulled beside the return folder and moved into it, so that `fetch-results` finds them there as any other. A
request may take longer than a person's connection lasts: it goes on, and asking again joins it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from racksack_controller import returns
from racksack_controller.acl import AclError, let_read, uid_to_open_to
from racksack_controller.core.state import Attempt, Job
from racksack_controller.nodes.errors import NodeError, NodeUnreachable
from racksack_controller.nodes.node import BroughtLeft, Node
from racksack_jobspecs import durable
from racksack_jobspecs.layout import Spool

ANSWER_S = 20.0  # by then whoever asks hears that it is under way


class LeftoversError(Exception):
    """They cannot be brought; the message is a sentence for their owner."""


class Leftovers:
    """The requests that are under way, each once."""

    def __init__(self, spool: Spool, nodes: Mapping[str, Node]) -> None:
        self._spool = spool
        self._nodes = nodes
        self._tasks: dict[tuple[str, tuple[str, ...]], asyncio.Task[BroughtLeft]] = {}

    async def bring(self, job: Job, attempt: Attempt, patterns: Sequence[str]) -> BroughtLeft | None:
        """What came; None when it takes longer, and should be asked again. Raises LeftoversError."""
        key = attempt.key, tuple(patterns)
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._bring(job, attempt, patterns))
        await asyncio.wait([task], timeout=ANSWER_S)
        if not task.done():
            return None
        self._tasks.pop(key, None)
        return task.result()

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _bring(self, job: Job, attempt: Attempt, patterns: Sequence[str]) -> BroughtLeft:
        if not self._spool.returned(job.id).is_dir():
            raise LeftoversError(f"the results of job {job.id} were deleted, so nothing can be added to them")
        node = self._nodes.get(attempt.node)
        if node is None:
            raise LeftoversError(f"{attempt.node}, where they stayed, is no longer in the configuration")
        beside = self._spool.returns / f".receiving-left-{secrets.token_hex(8)}"
        try:
            brought = await node.bring_left(attempt.key, patterns, beside)
            final = self._spool.returned(job.id)
            await asyncio.to_thread(
                _move_in, beside, final / f"rank-{attempt.rank}" if attempt.rank else final, job.owner
            )
        except NodeUnreachable as error:
            raise LeftoversError(f"they are on {attempt.node}, which cannot be reached now: {error}") from error
        except (NodeError, returns.ReturnsError) as error:
            raise LeftoversError(str(error)) from error
        except OSError as error:
            raise LeftoversError(f"they could not be stored on the controller: {error}") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
        return brought


def _move_in(beside: Path, final: Path, owner: str) -> None:
    """Move each file to its place, if that is free. Raises OSError, ReturnsError."""
    if not beside.is_dir():
        return
    final.mkdir(exist_ok=True)
    uid = uid_to_open_to(owner)
    if uid is not None:
        try:
            let_read(uid, [beside], recursive=True)
        except AclError as error:
            raise returns.ReturnsError(str(error)) from error
    for folder, names, files in os.walk(beside):
        inner = final / Path(folder).relative_to(beside)
        for name in names:
            if not os.path.lexists(inner / name):
                (Path(folder) / name).rename(inner / name)
        for name in files:
            if not os.path.lexists(inner / name):
                (Path(folder) / name).rename(inner / name)
        names[:] = [name for name in names if os.path.lexists(Path(folder) / name) and (inner / name).is_dir()]
    durable.sync_file_system(final)
