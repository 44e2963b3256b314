"""Data sets: from the `data:` of a job file to what its attempts are given, and what owners do with theirs.

A version is a snapshot like a project's: content-addressed, kept once, sent to each node once, and opened to those who
uploaded it. It stays until its owner removes it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path

from racksack_controller.config.data import DataOnNodes
from racksack_controller.core.records import DataMount
from racksack_controller.intake import data_table, ingest
from racksack_controller.intake.data_table import DataSet
from racksack_controller.intake.projects import SNAPSHOT, Projects
from racksack_controller.store import Store
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.snapshot import digest_of, manifest_of
from racksack_jobspecs.spec import DataUse


class DataSets:
    """The data sets of one spool. `on_nodes`: those of the configuration, which belong to everybody."""

    def __init__(self, spool: Spool, store: Store, projects: Projects, on_nodes: Mapping[str, DataOnNodes]) -> None:
        self._spool, self._store, self._projects = spool, store, projects
        self.on_nodes = on_nodes

    async def take(self, uses: tuple[DataUse, ...], owner: str, owner_uid: int) -> tuple[DataMount, ...]:
        """What attempts of a job are given. Raises IngestError, IngestPostponed, StoreError."""
        return tuple([await self._take(use, owner, owner_uid) for use in uses])

    def nodes_for(self, uses: tuple[DataUse, ...]) -> list[tuple[str, ...]]:
        """The nodes that have what a job names and what lies on some nodes alone: a tuple for each such data set."""
        named = [self.on_nodes[use.name] for use in uses if not use.content and use.name in self.on_nodes]
        return [one.nodes for one in named if one.nodes]

    async def _take(self, use: DataUse, owner: str, owner_uid: int) -> DataMount:
        if use.content:
            found = await self.add(use.name, use.content, owner, owner_uid, use.digest)
        elif use.name in self.on_nodes:
            return DataMount(name=use.name, source=self.on_nodes[use.name].path, path=use.path)
        else:
            found = await self.find(use.name, use.version, owner)
        if await asyncio.to_thread(ingest.refer, self._spool, found.digest) is None:
            raise ingest.IngestError(
                f"the content of data set {use.name} v{found.version} is no longer kept; add it again"
            )
        now = time.time()
        await self._store.write(lambda connection: data_table.taken(connection, found, now))
        return DataMount(name=use.name, digest=found.digest, path=use.path, bytes=found.size_bytes)

    async def add(self, name: str, content: str, owner: str, owner_uid: int, announced: str = "") -> DataSet:
        """Make an upload, or `snapshot:DIGEST` of content that this owner sent before, the newest version of a name.

        Raises IngestError, IngestPostponed, StoreError.
        """
        if content.startswith(SNAPSHOT):
            digest = content.removeprefix(SNAPSHOT)
            if not self._projects.may_refer(digest, owner):
                raise ingest.IngestError(f"snapshot {digest[:12]} was not uploaded by {owner}; upload it")
        else:
            digest = await self._projects.take_content(content, owner, owner_uid, announced)
        files, size_bytes = await asyncio.to_thread(_measure, self._spool.snapshots / digest)
        now = time.time()
        return await self._store.write(
            lambda connection: data_table.add(connection, owner, name, digest, files, size_bytes, now)
        )

    async def find(self, name: str, version: int | None, owner: str) -> DataSet:
        """A version, or the newest one. Raises IngestError."""
        known = await self._store.read(lambda connection: data_table.versions_of(connection, owner, name))
        if not known:
            raise ingest.IngestError(f"there is no data set {name}; `racksack data add {name} FOLDER` makes one")
        for one in known:
            if version is None or one.version == version:
                return one
        versions = ", ".join(f"v{one.version}" for one in known[:10])
        raise ingest.IngestError(f"data set {name} has no version v{version}; it has {versions}")

    async def all_of(self, owner: str | None) -> list[DataSet]:
        """Data sets of an owner, or of everybody."""
        return await self._store.read(lambda connection: data_table.all_of(connection, owner))

    async def versions(self, name: str, owner: str) -> list[DataSet]:
        """All versions of one, newest first."""
        return await self._store.read(lambda connection: data_table.versions_of(connection, owner, name))

    async def pin(self, one: DataSet, *, pinned: bool) -> None:
        """See data_table.pin."""
        await self._store.write(lambda connection: data_table.pin(connection, one, pinned=pinned))

    async def remove(self, one: DataSet) -> None:
        """See data_table.remove."""
        await self._store.write(lambda connection: data_table.remove(connection, one))

    async def verify(self, one: DataSet) -> bool:
        """Whether the controller's copy still has its digest; reads all of it, in a thread."""
        folder = self._spool.snapshots / one.digest
        return await asyncio.to_thread(lambda: folder.is_dir() and digest_of(manifest_of(folder)) == one.digest)


def _measure(folder: Path) -> tuple[int, int]:
    """Files and bytes below a folder. Runs in a thread."""
    files = size_bytes = 0
    for where, _, names in os.walk(folder):
        for name in names:
            info = os.lstat(os.path.join(where, name))  # noqa: PTH118
            files += 1
            size_bytes += info.st_size
    return files, size_bytes
