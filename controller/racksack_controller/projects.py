"""Whose content is whose: from the `project:` of a job file to the digest of a stored snapshot.

The store learns what an upload is before the upload moves, so a crash in between is answered by doing it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from racksack_controller import ingest
from racksack_controller.ingest import IngestError, IngestPostponed, collect_garbage
from racksack_controller.store import Store, digest_of_upload, owner_has_snapshot, save_upload
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import JobSpec

__all__ = ["IngestError", "IngestPostponed", "Projects", "collect_garbage"]

_SNAPSHOT = "snapshot:"


class Projects:
    """Uploads become snapshots; references to snapshots are honoured for those who uploaded them."""

    def __init__(self, spool: Spool, store: Store, shared: bool) -> None:
        self._spool, self._store, self._shared = spool, store, shared
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def take(self, spec: JobSpec, owner: str, owner_uid: int) -> str:
        """The digest of the spec's project, which is in place and holds what the spec names.

        Raises IngestError for what its owner must mend, IngestPostponed for what passes, StoreError.
        """
        if spec.project.startswith(_SNAPSHOT):
            return await self._referred(spec, owner)
        async with self._alone_with(spec.project):
            return await self._uploaded(spec, owner, owner_uid)

    async def may_refer(self, digest: str, owner: str) -> bool:
        """Whether this user may submit `snapshot:<digest>`: it is here, and an upload of his was the same."""
        if not await self._store.read(lambda connection: owner_has_snapshot(connection, digest, owner)):
            return False
        return await asyncio.to_thread(ingest.refer, self._spool, digest) is not None

    async def _referred(self, spec: JobSpec, owner: str) -> str:
        digest = spec.project.removeprefix(_SNAPSHOT)
        if not await self.may_refer(digest, owner):
            raise IngestError(f"there is no content {digest[:12]}... of yours here any more; send the project again")
        await asyncio.to_thread(ingest.check_spec, self._spool.snapshots / digest, spec)
        return digest

    async def _uploaded(self, spec: JobSpec, owner: str, owner_uid: int) -> str:
        upload = spec.project
        content = await asyncio.to_thread(ingest.examine, self._spool, spec, owner_uid, is_shared=self._shared)
        if content is None:
            return await self._taken_before(spec, owner)
        digest = content.digest
        now = time.time()
        await self._store.write(lambda connection: save_upload(connection, upload, owner, digest, now))
        await asyncio.to_thread(ingest.keep, self._spool, content)
        return digest

    async def _taken_before(self, spec: JobSpec, owner: str) -> str:
        """The upload was moved by an earlier job file, or just before a crash."""
        upload = spec.project
        digest = await self._store.read(lambda connection: digest_of_upload(connection, upload, owner))
        kept = await asyncio.to_thread(ingest.refer, self._spool, digest) if digest else None
        if digest is None or kept is None:
            raise IngestError(f"there is no upload {upload} in incoming/; send the project before the job file")
        await asyncio.to_thread(ingest.check_spec, kept, spec)
        return digest

    @asynccontextmanager
    async def _alone_with(self, upload: str) -> AsyncIterator[None]:
        """Several job files may name one upload; one of them takes it and the others find it taken."""
        lock, users = self._locks.get(upload, (asyncio.Lock(), 0))
        self._locks[upload] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(upload)
            if users > 1:
                self._locks[upload] = (lock, users - 1)
