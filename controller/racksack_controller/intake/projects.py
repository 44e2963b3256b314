"""Whose content is whose: from the `project:` of a job file to the digest of a kept snapshot.

An upload is examined, then recorded in the store, then kept: a crash between any two of these is answered by doing it
all again. Many job files may name one upload; it is read once, and later ones find its record.
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from pathlib import Path

import msgspec

from racksack_controller.acl import AclError, let_read, uid_to_open_to
from racksack_controller.config.limits import DEFAULT_LIMITS
from racksack_controller.intake import ingest
from racksack_controller.store import Store, digest_of_upload, owner_has_snapshot, save_upload
from racksack_controller.threads import Threads
from racksack_controller.turns import KeyedLocks, Turns
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import JobSpec

log = logging.getLogger("racksack.projects")

SNAPSHOT = "snapshot:"
CHECKED_MAX = 10_000
UPLOADS_AT_ONCE = 8  # in a shared spool each user has one of them


class Projects:
    """Uploads become snapshots; references to snapshots are honoured for those who uploaded the content."""

    def __init__(self, spool: Spool, store: Store, *, is_shared: bool) -> None:
        self._spool, self._store, self._is_shared = spool, store, is_shared
        self._uploads = KeyedLocks()  # several job files may name one upload; one takes it, the others find it taken
        self.limits = DEFAULT_LIMITS
        self._threads = Threads("upload", UPLOADS_AT_ONCE)  # of their own: copying takes as long as its owner wishes
        self._turns = Turns(UPLOADS_AT_ONCE, 1 if is_shared else UPLOADS_AT_ONCE)
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._checked: OrderedDict[bytes, None] = OrderedDict()  # content is immutable, so a check holds for good

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.close()

    async def take(self, spec: JobSpec, owner: str, owner_uid: int) -> str:
        """The digest of the content that a spec names. Raises IngestError, IngestPostponed and StoreError."""
        if spec.project.startswith(SNAPSHOT):
            return await self._refer(spec, spec.project.removeprefix(SNAPSHOT), owner)
        async with self._uploads.alone_with(spec.project):
            return await self._take_upload(spec, spec.project, owner, owner_uid)

    async def take_content(self, upload: str, owner: str, owner_uid: int, digest: str = "") -> str:
        """The digest of an upload that is data and no project; `digest` is the announced one, if any.

        Raises IngestError, IngestPostponed and StoreError.
        """
        async with self._uploads.alone_with(upload):
            return await self._take_upload(None, upload, owner, owner_uid, digest)

    async def _take_upload(
        self, spec: JobSpec | None, upload: str, owner: str, owner_uid: int, announced: str = ""
    ) -> str:
        """`spec` is None for data, of which nothing has to be in it."""
        content = None
        if os.path.lexists(self._spool.incoming / upload):  # else it was taken: what stands there now may be newer
            async with self._turns.of(owner):
                content = await self._threads.run(
                    ingest.examine,
                    self._spool,
                    spec,
                    owner_uid,
                    is_shared=self._is_shared,
                    upload=upload,
                    digest=announced,
                    limits=self.limits,
                )
        if content is None:
            known = self._store.look(lambda connection: digest_of_upload(connection, upload, owner))
            if known is not None:
                return known if spec is None else await self._refer(spec, known, owner)
            raise ingest.IngestError(f"there is no upload {upload} in incoming/; send the project before the job file")
        digest = content.digest
        await self._store.write(lambda connection: save_upload(connection, upload, owner, digest, time.time()))
        await self._threads.run(ingest.keep, self._spool, content)
        if self._is_shared:
            await self._threads.run(self._open_to, owner, digest)
        return digest

    def _open_to(self, owner: str, digest: str) -> None:
        """Let the uploader's next rsync compare with this content; others may not enter its folder.

        Without it everything still works, at the price of sending the whole project again, so a failure is only told.
        """
        folder, uid = self._spool.snapshots / digest, uid_to_open_to(owner)
        if uid is None:
            return
        try:
            folder.chmod(0o700)
            let_read(uid, [folder])
        except (AclError, OSError) as error:
            log.warning("snapshot %s is not open to %s: %s", digest[:12], owner, error)

    async def _refer(self, spec: JobSpec, digest: str, owner: str) -> str:
        if not self.may_refer(digest, owner):
            raise ingest.IngestError(f"snapshot {digest[:12]} is not, or no longer, kept for {owner}; send the project")
        root = ingest.refer(self._spool, digest)  # each time: it keeps the content from being removed as unused
        if root is None:
            raise ingest.IngestError(f"snapshot {digest[:12]} is no longer kept; send the project again")
        named = (spec.entrypoint, spec.environment, spec.stage_in_ram, sorted(ingest.scripts_of(spec)))
        mark = msgspec.msgpack.encode((digest, *named))
        if mark not in self._checked:
            await self._threads.run(ingest.check_spec, root, spec)
            self._checked[mark] = None
            if len(self._checked) > CHECKED_MAX:
                self._checked.popitem(last=False)
        return digest

    async def size_of(self, digest: str) -> int:
        """The bytes of kept content: read once, as content never changes."""
        if digest not in self._sizes:
            self._sizes[digest] = await self._threads.run(_size_of, self._spool.snapshots / digest)
            if len(self._sizes) > CHECKED_MAX:
                self._sizes.popitem(last=False)
        return self._sizes[digest]

    def keep(self, digest: str) -> None:
        """Mark content as used now, so that it stays. Raises IngestError when it is gone."""
        if ingest.refer(self._spool, digest) is None:
            raise ingest.IngestError("its project is no longer kept; submit it again")

    def may_refer(self, digest: str, owner: str) -> bool:
        """Whether this user uploaded this content, and it is still kept. Raises StoreError."""
        known = self._store.look(lambda connection: owner_has_snapshot(connection, digest, owner))
        return known and (self._spool.snapshots / digest).is_dir()


def _size_of(root: Path) -> int:
    """Runs in a thread. Content that is being removed counts nothing."""
    try:
        return sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir())
    except OSError:
        return 0
