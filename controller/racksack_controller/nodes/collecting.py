"""Pulls return folders: many small ones in one request, large ones by the transport, each checked before it counts.

Rules: what the node sends is not trusted (see `unpack.py`, `links.py`); a folder is complete only when it holds as many
files and bytes as the node reported, and the same bytes (`output_digest.py`); one that twice arrives otherwise is
damaged on the node; every failure is a reply with a sentence, so one bad folder does not hold up the others.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from racksack_controller import disk_room
from racksack_controller.nodes import copying, links, output_digest
from racksack_controller.nodes.agent_answers import Ask, BringAnswer
from racksack_controller.nodes.errors import NodeError, NodeUnreachable, TransferFailed
from racksack_controller.nodes.node import AttemptReport, CollectReply
from racksack_controller.nodes.tar_reader import DamagedArchive
from racksack_controller.nodes.transport import Announced, Transport
from racksack_controller.nodes.unpack import Room, TooMuch, UnsafeArchive, unpack

INLINE_BYTES_MAX = 256 * 1024  # of one attempt
INLINE_FILES_MAX = 200
FILE_OVERHEAD_BYTES = 3 * 1024  # in an archive: its header, perhaps one for a long name, padding
ARCHIVE_BYTES_MIN = 64 * 1024  # links, folders and longer names have room in any archive
BATCH_BYTES_MAX = 8 * 1024**2  # of the archives of one request
BATCH_ATTEMPTS_MAX = 64
FETCH_TIMEOUT_S = 120.0

Ended = Callable[[Sequence[str]], Awaitable[Mapping[str, AttemptReport]]]


class Collector:
    """Collects from one node during one connection."""

    def __init__(self, name: str, transport: Transport, home: str, ask: Ask) -> None:
        self._name = name
        self._transport = transport
        self._home = home
        self._ask = ask

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
        return _failure(f"{self._name} no longer has attempt {attempt}, so its results cannot be fetched.", "gone")

    async def _fetch(self, batch: Mapping[str, tuple[AttemptReport, Path]]) -> dict[str, CollectReply]:
        """Several small folders in one request; those that it does not settle are missing from the result."""
        limit_bytes = max(_archive_bytes(report) for report, _ in batch.values())
        arguments: dict[str, object] = {"attempts": list(batch), "limit_bytes": limit_bytes}
        answer_bytes = len(batch) * (limit_bytes + ARCHIVE_BYTES_MIN) * 4 // 3
        try:
            archives = await self._ask("fetch", arguments, FETCH_TIMEOUT_S, dict[str, str | None], answer_bytes)
        except NodeError as error:
            kind = "unreachable" if isinstance(error, NodeUnreachable) else "failed"
            return dict.fromkeys(batch, _failure(str(error), kind))
        replies = {name: self._gone(name) for name in batch if name not in archives}
        replies |= await asyncio.to_thread(self._unpack_all, batch, archives)
        return replies

    def _unpack_all(
        self, batch: Mapping[str, tuple[AttemptReport, Path]], archives: Mapping[str, str | None]
    ) -> dict[str, CollectReply]:
        replies = {}
        for name, (report, target) in batch.items():
            archive = archives.get(name)
            if archive is not None:
                reply = self._guarded(name, lambda a=archive, t=target, r=report: _unpack_one(a, t, r))  # type: ignore[misc]
                if reply.kind != "incomplete":  # else it is pulled, which compares file by file
                    replies[name] = reply
        return replies

    async def pull_left(self, attempt: str, found: BringAnswer, target: Path) -> None:
        """Pull files that had stayed on the node. Raises TransferFailed when they do not come whole, NodeError."""
        if not found.path.startswith(f"{self._home}/kept/"):
            raise TransferFailed(f"{self._name} named a folder that is not the agent's.", "failed")
        await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
        try:
            with disk_room.hold(target, found.bytes):
                await self._transport.pull(found.path, target, Announced(found.files, found.bytes))
        except OSError as error:
            raise TransferFailed(
                f"what {attempt} left on {self._name} could not be copied: {error.strerror}"
            ) from error
        content = await asyncio.to_thread(links.settle, target)
        if (content.files, content.bytes) != (found.files, found.bytes):
            sentence = f"{content.files} of {found.files} files that {attempt} left on {self._name} arrived"
            raise TransferFailed(f"{sentence}; repeat the command.", "incomplete")

    async def _pull(self, attempt: str, report: AttemptReport, target: Path) -> CollectReply:
        """Pull one folder; once more from nothing where what came is not what was reported, since a file that came in
        an earlier try may have been damaged here.
        """
        reply = await self._pull_once(attempt, report, target)
        if reply.kind == "incomplete":
            try:
                await asyncio.to_thread(copying.clear, target)
            except OSError as error:
                return self._storage_failure(attempt, error)
            reply = await self._pull_once(attempt, report, target)
            if reply.kind == "incomplete":
                return _failure(f"The results of {attempt} were damaged on {self._name}: {reply.error}", "damaged")
        return reply

    async def _pull_once(self, attempt: str, report: AttemptReport, target: Path) -> CollectReply:
        try:
            await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
            announced = Announced(report.output_files, report.output_bytes)
            with disk_room.hold(target, report.output_bytes):
                await self._transport.pull(f"{self._home}/attempts/{attempt}/out", target, announced)
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
        except TooMuch as error:
            return _failure(f"The results of {attempt} on {self._name} are not as it reported: {error}.", "incomplete")
        except (DamagedArchive, binascii.Error) as error:
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
    room = Room(report.output_files, report.output_bytes)
    with disk_room.hold(target, report.output_bytes):
        notes = unpack(base64.b64decode(archive, validate=True), target, room)
    return _check(target, report, notes)


def _check(target: Path, report: AttemptReport, notes: Sequence[str]) -> CollectReply:
    """Judge the links, then compare with what was reported. Raises OSError."""
    content = links.settle(target)
    if (content.files, content.bytes) != (report.output_files, report.output_bytes):
        return _failure(
            f"{content.files} files with {content.bytes} bytes of {report.attempt} arrived, but "
            f"{report.output_files} with {report.output_bytes} were written.",
            "incomplete",
        )
    if report.output_digest and output_digest.digest_of(target) != report.output_digest:
        return _failure(f"The files of {report.attempt} that arrived differ from what was written.", "incomplete")
    return CollectReply(True, content.files, content.bytes, (*notes, *content.notes))


def _failure(sentence: str, kind: str) -> CollectReply:
    return CollectReply(False, error=sentence, kind=kind)


def _is_small(report: AttemptReport) -> bool:
    return report.output_bytes <= INLINE_BYTES_MAX and report.output_files <= INLINE_FILES_MAX


def _archive_bytes(report: AttemptReport) -> int:
    """How large the archive of such an attempt may be."""
    return ARCHIVE_BYTES_MIN + report.output_bytes + FILE_OVERHEAD_BYTES * report.output_files


def _batches(attempts: Sequence[str], reports: Mapping[str, AttemptReport]) -> Iterator[list[str]]:
    """Groups whose archives, each as large as the largest of its group may be, fit into one answer."""
    batch: list[str] = []
    most = 0
    for attempt in sorted(attempts, key=lambda name: _archive_bytes(reports[name])):
        most = _archive_bytes(reports[attempt])
        if batch and ((len(batch) + 1) * most > BATCH_BYTES_MAX or len(batch) == BATCH_ATTEMPTS_MAX):
            yield batch
            batch = []
        batch.append(attempt)
    if batch:
        yield batch
