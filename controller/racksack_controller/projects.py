"""Whose content is whose: from the `project:` of a job file to the digest of a kept snapshot.

An upload is examined, then recorded in the store, then kept: a crash between any two of these is answered by doing it
all again. Many job files may name one upload; it is read once, and later ones find its record.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

import msgspec

from racksack_controller import ingest
from racksack_controller.store import Store, digest_of_upload, owner_has_snapshot, save_upload
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import JobSpec

SNAPSHOT = "snapshot:"
CHECKED_MAX = 10_000


class Projects:
    """Uploads become snapshots; references to snapshots are honoured for those who uploaded the content."""

    def __init__(self, spool: Spool, store: Store, *, is_shared: bool) -> None:
        self._spool, self._store, self._is_shared = spool, store, is_shared
        self._in_hand: dict[str, asyncio.Lock] = {}
        self._checked: OrderedDict[bytes, None] = OrderedDict()  # content is immutable, so a check holds for good

    async def take(self, spec: JobSpec, owner: str, owner_uid: int) -> str:
        """The digest of the content that a spec names. Raises IngestError, IngestPostponed and StoreError."""
        if spec.project.startswith(SNAPSHOT):
            return await self._refer(spec, spec.project.removeprefix(SNAPSHOT), owner)
        lock = self._in_hand.setdefault(spec.project, asyncio.Lock())
        try:
            async with lock:
                return await self._take_upload(spec, owner, owner_uid)
        finally:
            if not lock.locked():
                self._in_hand.pop(spec.project, None)

    async def _take_upload(self, spec: JobSpec, owner: str, owner_uid: int) -> str:
        upload = spec.project
        known = self._store.look(lambda connection: digest_of_upload(connection, upload, owner))
        if known is not None and (self._spool.snapshots / known).is_dir():
            return await self._refer(spec, known, owner)
        content = await asyncio.to_thread(ingest.examine, self._spool, spec, owner_uid, is_shared=self._is_shared)
        if content is None:
            raise ingest.IngestError(f"there is no upload {upload} in incoming/; send the project before the job file")
        digest = content.digest
        await self._store.write(lambda connection: save_upload(connection, upload, owner, digest, time.time()))
        await asyncio.to_thread(ingest.keep, self._spool, content)
        return digest

    async def _refer(self, spec: JobSpec, digest: str, owner: str) -> str:
        if not self.may_refer(digest, owner):
            raise ingest.IngestError(f"snapshot {digest[:12]} is not content that {owner} uploaded; send the project")
        mark = msgspec.msgpack.encode((digest, spec.entrypoint, spec.environment, spec.stage_in_ram))
        if mark not in self._checked:
            root = await asyncio.to_thread(ingest.refer, self._spool, digest)
            if root is None:
                raise ingest.IngestError(f"snapshot {digest[:12]} is no longer kept; send the project again")
            await asyncio.to_thread(ingest.check_spec, root, spec)
            self._checked[mark] = None
            if len(self._checked) > CHECKED_MAX:
                self._checked.popitem(last=False)
        return digest

    def may_refer(self, digest: str, owner: str) -> bool:
        """Whether this user uploaded this content, and it is still kept. Raises StoreError."""
        known = self._store.look(lambda connection: owner_has_snapshot(connection, digest, owner))
        return known and (self._spool.snapshots / digest).is_dir()
