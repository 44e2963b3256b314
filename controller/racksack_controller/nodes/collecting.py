"""Pulls return folders: many small ones in one request, large ones by the transport, each checked before it counts.

Rules: what the node sends is not trusted (see `unpack.py`, `links.py`); a folder is complete only when it holds as many
files and bytes as the node reported; every failure is a reply with a sentence, so one bad folder does not hold up
the others.
"""

from __future__ import annotations

import asyncio
import base64
import tarfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from racksack_controller.nodes import copying, links
from racksack_controller.nodes.errors import AgentError, NodeError, NodeUnreachable, TransferFailed
from racksack_controller.nodes.node import AttemptReport, CollectReply
from racksack_controller.nodes.staging import Call
from racksack_controller.nodes.transport import Transport
from racksack_controller.nodes.unpack import UnsafeArchive, unpack

INLINE_BYTES_MAX = 256 * 1024  # of one attempt
INLINE_FILES_MAX = 200
BATCH_BYTES_MAX = 4 * 1024**2
BATCH_ATTEMPTS_MAX = 64
FETCH_TIMEOUT_S = 120.0

Ended = Callable[[Sequence[str]], Awaitable[Mapping[str, AttemptReport]]]


class Collector:
    """Collects from one node during one connection."""

    def __init__(self, name: str, transport: Transport, home: str, call: Call) -> None:
        self._name = name
        self._transport = transport
        self._home = home
        self._call = call

    async def collect(
        self, attempts: Mapping[str, Path], reports: Mapping[str, AttemptReport]
    ) -> dict[str, CollectReply]:
        """See Node.collect. `reports` has the final report of each attempt that the node still has."""
        replies = {name: self._gone(name) for name in attempts if name not in reports}
        wanted = {name: (reports[name], path) for name, path in attempts.items() if name in reports}
        inline = [] if self._transport.by_links else [name for name, (report, _) in wanted.items() if _is_small(report)]
        for batch in _batches(inline, reports):
            replies |= await self._fetch({name: wanted[name] for name in batch})
        rest = [name for name in wanted if name not in replies]
        pulled = await asyncio.gather(*(self._pull(name, *wanted[name]) for name in rest))
        return replies | dict(zip(rest, pulled, strict=True))

    def _gone(self, attempt: str) -> CollectReply:
        return _failure(f"{self._name} has no attempt {attempt} any more, so its results cannot be fetched.", "gone")

    async def _fetch(self, batch: Mapping[str, tuple[AttemptReport, Path]]) -> dict[str, CollectReply]:
        """Several small folders in one request; those that it does not settle are missing from the result."""
        arguments: dict[str, object] = {"attempts": list(batch), "limit_bytes": 2 * INLINE_BYTES_MAX}
        try:
            archives = await self._call("fetch", arguments, FETCH_TIMEOUT_S)
        except (NodeUnreachable, AgentError) as error:
            kind = "unreachable" if isinstance(error, NodeUnreachable) else "failed"
            return dict.fromkeys(batch, _failure(str(error), kind))
        if not isinstance(archives, dict):
            return dict.fromkeys(
                batch, _failure(f"{self._name} answered a fetch with {type(archives).__name__}.", "failed")
            )
        replies = {name: self._gone(name) for name in batch if name not in archives}
        replies |= await asyncio.to_thread(self._unpack_all, batch, archives)
        return replies

    def _unpack_all(
        self, batch: Mapping[str, tuple[AttemptReport, Path]], archives: Mapping[str, object]
    ) -> dict[str, CollectReply]:
        replies = {}
        for name, (report, target) in batch.items():
            archive = archives.get(name)
            if isinstance(archive, str):
                reply = self._guarded(name, lambda a=archive, t=target, r=report: _unpack_one(a, t, r))  # type: ignore[misc]
                if reply.kind != "incomplete":  # else it is pulled, which compares file by file
                    replies[name] = reply
        return replies

    async def _pull(self, attempt: str, report: AttemptReport, target: Path) -> CollectReply:
        try:
            await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
            await self._transport.pull(f"{self._home}/attempts/{attempt}/out", target)
        except TransferFailed as error:
            return _failure(str(error), "gone" if error.kind == "missing" else error.kind)
        except NodeError as error:
            return _failure(str(error), "unreachable" if isinstance(error, NodeUnreachable) else "failed")
        except OSError as error:
            return self._storage_failure(attempt, error)
        return await asyncio.to_thread(self._guarded, attempt, lambda: _check(target, report, []))

    def _guarded(self, attempt: str, work: Callable[[], CollectReply]) -> CollectReply:
        """Run work on the file system; every way in which it can fail is a reply."""
        try:
            return work()
        except UnsafeArchive as error:
            return _failure(f"The results of {attempt} on {self._name} were refused: {error}.", "unsafe")
        except (tarfile.TarError, ValueError, EOFError) as error:
            return _failure(f"The results of {attempt} on {self._name} arrived damaged ({error}).", "failed")
        except OSError as error:
            return self._storage_failure(attempt, error)

    def _storage_failure(self, attempt: str, error: OSError) -> CollectReply:
        if copying.kind_of(error) == "disk_full":
            return _failure(
                f"The controller's disk is full; the results of {attempt} stay on {self._name} until there is space.",
                "disk_full",
            )
        return _failure(f"The results of {attempt} could not be stored on the controller ({error}).", "failed")


def _unpack_one(archive: str, target: Path, report: AttemptReport) -> CollectReply:
    copying.clear(target)
    return _check(target, report, unpack(base64.b64decode(archive, validate=True), target))


def _check(target: Path, report: AttemptReport, notes: Sequence[str]) -> CollectReply:
    """Judge the links, then compare with what was reported."""
    content = links.settle(target)
    if (content.files, content.bytes) != (report.output_files, report.output_bytes):
        return _failure(
            f"{content.files} files with {content.bytes} bytes of {report.attempt} arrived, but the node reported "
            f"{report.output_files} with {report.output_bytes}; they are fetched again.",
            "incomplete",
        )
    return CollectReply(True, content.files, content.bytes, (*notes, *content.notes))


def _failure(sentence: str, kind: str) -> CollectReply:
    return CollectReply(False, error=sentence, kind=kind)


def _is_small(report: AttemptReport) -> bool:
    return report.output_bytes <= INLINE_BYTES_MAX and report.output_files <= INLINE_FILES_MAX


def _batches(attempts: Sequence[str], reports: Mapping[str, AttemptReport]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for attempt in attempts:
        expected = reports[attempt].output_bytes
        if batch and (size + expected > BATCH_BYTES_MAX or len(batch) == BATCH_ATTEMPTS_MAX):
            yield batch
            batch, size = [], 0
        batch.append(attempt)
        size += expected
    if batch:
        yield batch
