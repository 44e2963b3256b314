"""Whether the spool can be written, and what room is left in it. Blocks; leaves nothing behind."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from racksack_controller.checks.node import DISK_BYTES_MIN
from racksack_controller.intake.ids import highest_id
from racksack_controller.pruning import last_id
from racksack_jobspecs.findings import Finding, failed, ok, warning
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.units import format_memory

TRIED_BYTES = 64 * 1024
FREE_FILES_MIN = 10_000
_REMEDIES = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space below its quota",
    errno.EROFS: "its file system is read-only; see `dmesg`",
    errno.ENOENT: "restart the controller, which creates it",
    errno.EIO: "its disk is failing; see `dmesg`",
}
_USUAL_REMEDY = "check its owner and mode; a restart of the controller sets them right"


def look_at_spool(spool: Spool) -> list[Finding]:
    """Try every folder, and count what is free on each file system that they are on."""
    folders = (spool.root, spool.incoming, spool.jobs, spool.snapshots, spool.projects, spool.returns)
    problems = {folder: error for folder in folders if (error := _try(folder)) is not None}
    return [_writable(spool, problems), *_rooms(spool, folders), *_returns(spool)]


def _returns(spool: Spool) -> list[Finding]:
    """Whether return folders say that the store was restored or replaced; nothing where they do not."""
    try:
        aside = [path.name for path in spool.returns.glob("*.aside-*")]
        highest = highest_id(spool)
        with closing(sqlite3.connect(f"file:{quote(str(spool.database))}?mode=ro", uri=True)) as connection:
            last = last_id(connection)
    except (OSError, sqlite3.Error):
        return []  # said by other findings already
    found = []
    if highest > last:
        found.append(
            warning("returns", f"the store ends with id {last}, and returns/ with {highest}: the store is older; see "
                    "docs/operating.md, 'The store'")
        )  # fmt: skip
    if aside:
        found.append(
            warning("returns", f"{len(aside)} folders are of another store's jobs ({aside[0]}); give them to their "
                    "owners, or remove them")
        )  # fmt: skip
    return found


def _try(folder: Path) -> OSError | None:
    """Write a file and flush it. It has no name where the file system can do that, and loses it at once elsewhere."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(os.urandom(TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _writable(spool: Spool, problems: Mapping[Path, OSError]) -> Finding:
    if not problems:
        return ok("spool", f"{spool.root} is writable")
    by_reason: dict[int, list[Path]] = {}
    for folder, error in problems.items():
        by_reason.setdefault(error.errno or 0, []).append(folder)
    told = [
        f"{' and '.join(map(str, folders))}: {os.strerror(number)}, {_REMEDIES.get(number, _USUAL_REMEDY)}"
        for number, folders in by_reason.items()
    ]
    return failed("spool", f"cannot be written: {'; '.join(told)}")


def _rooms(spool: Spool, folders: tuple[Path, ...]) -> list[Finding]:
    """A finding for each file system; a folder that is missing was told of already."""
    seen: dict[int, Path] = {}
    for folder in folders:
        try:
            seen.setdefault(folder.stat().st_dev, folder)
        except OSError:
            continue
    return [_room(spool, folder) for folder in seen.values()]


def _room(spool: Spool, folder: Path) -> Finding:
    what = "space" if folder == spool.root else f"space {folder.name}"
    try:
        space = os.statvfs(folder)
    except OSError as error:
        return failed(what, f"cannot read {folder} ({error.strerror}); check its disk")
    free_bytes = space.f_bavail * space.f_frsize
    free = f"{format_memory(free_bytes) if free_bytes else 'nothing'} free of {format_memory(_size(space))}"
    if free_bytes < DISK_BYTES_MIN:
        return warning(
            what,
            f"{free}; make room: `fetch-results --delete-after` removes results that were fetched, `keep:` of the "
            "configuration says how long unused content stays",
        )
    if space.f_files > 0 and space.f_favail < FREE_FILES_MIN:
        return warning(what, f"{free}, but only {space.f_favail} more files can be made on this file system")
    return ok(what, free)


def _size(space: os.statvfs_result) -> int:
    return max(1, space.f_blocks * space.f_frsize)
