"""Digests of files that have not changed since they were last read, so that an unchanged project costs one look at each
file.

A flat file per project: read whole, written whole, beside and renamed. A file counts as unchanged when path, size,
mtime, ctime and inode are what they were. A file that changed in the two seconds before it was read is not remembered:
it could change again within the same tick of the file system's clock (the "racy" entries of git's index). Losing the
cache costs time only.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from racksack.errors import ProjectError
from racksack.submission.project import Found, Selection
from racksack.text import clean
from racksack.transport.target import cache_folder
from racksack_jobspecs.bounds import UNDECODABLE
from racksack_jobspecs.snapshot import Entry, digest_of, read_entries

_RACY_NS = 2_000_000_000
_Key = tuple[int, int, int, int]  # size, mtime, ctime, inode


class Remembered(msgspec.Struct):
    """What is known about a project from earlier submissions."""

    files: dict[bytes, tuple[_Key, str]] = {}
    sent: dict[str, str] = {}  # controller -> digest of the content it got last


def cache_file(root: Path) -> Path:
    """Where a project's digests are kept."""
    return cache_folder() / "projects" / hashlib.sha256(os.fsencode(root)).hexdigest()[:32]


def recall(root: Path) -> Remembered:
    """What is remembered of a project; nothing when the file is missing or damaged."""
    try:
        return msgspec.msgpack.decode(cache_file(root).read_bytes(), type=Remembered)
    except (OSError, *UNDECODABLE):
        return Remembered()


def remember(root: Path, known: Remembered) -> None:
    """Keep what is known. Where the cache cannot be written the next submission is slower, and nothing else."""
    path = cache_file(root)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(msgspec.msgpack.encode(known))
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()


def manifest(
    selection: Selection, known: Remembered, on_read: Callable[[int], None] = lambda size: None
) -> list[Entry]:
    """The manifest of a selection; `known.files` is brought up to date. `on_read` hears the bytes of each file read."""
    files: dict[bytes, tuple[_Key, str]] = {}
    entries = []
    changed = {}
    for found in selection.entries:
        before = known.files.get(found.path)
        if found.kind == "d":
            entries.append(Entry(found.path, "d", False, 0, "-"))
        elif found.kind == "f" and before is not None and before[0] == _key(found):
            entries.append(Entry(found.path, "f", found.executable, found.size_bytes, before[1]))
            files[found.path] = before
        else:
            changed[found.path] = found
    read_at_ns = time.time_ns()
    for path, read in read_entries(selection.root, changed):
        found = changed[path]
        entry = _read(found, read)
        on_read(entry.size_bytes)
        if found.kind == "f" and entry.size_bytes == found.size_bytes and found.ctime_ns < read_at_ns - _RACY_NS:
            files[path] = (_key(found), entry.identity)
        entries.append(entry)
    known.files = files
    return entries


def _key(found: Found) -> _Key:
    return found.size_bytes, found.mtime_ns, found.ctime_ns, found.inode


def digest(selection: Selection, known: Remembered, on_read: Callable[[int], None] = lambda size: None) -> str:
    """The snapshot digest of a selection."""
    return digest_of(manifest(selection, known, on_read))


def _read(found: Found, read: Callable[[], Entry]) -> Entry:
    try:
        return read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ProjectError(
            f"{clean(os.fsdecode(found.path))} cannot be read: {reason}; it changed while it was read"
        ) from error
