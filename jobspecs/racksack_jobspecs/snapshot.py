"""The identity of a project's content: a manifest of its entries and the SHA-256 over it.

Client and controller compute the same digest from the same content, whatever the file times and owners are; the
agent has its own copy of this rule, since it imports nothing of ours (a test holds the two together).

A manifest line is `kind SP executable SP size SP identity SP path NUL`: kind is `f` (file), `l` (link) or `d`
(empty directory); executable is 0 or 1; identity is the SHA-256 of a file's bytes, or of a link's target; path is
relative, in the bytes of the file system. Lines are sorted by path bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec

LARGE_BYTES = 256 * 1024
READERS_MAX = min(4, os.cpu_count() or 1)


class Entry(msgspec.Struct, frozen=True):
    """One file, symbolic link or empty directory of a project."""

    path: bytes
    kind: str
    executable: bool
    size_bytes: int
    identity: str

    def line(self) -> bytes:
        """The manifest line of this entry."""
        head = f"{self.kind} {int(self.executable)} {self.size_bytes} {self.identity} "
        return head.encode() + self.path + b"\0"


def digest_of(entries: Iterable[Entry]) -> str:
    """The digest (64 hexadecimal digits) of a manifest."""
    whole = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.path):
        whole.update(entry.line())
    return whole.hexdigest()


def entry_of(root: Path, relative: bytes) -> Entry:
    """Read one entry. Raises OSError when it cannot be read, ValueError for a device, socket or pipe."""
    return _entry(root, relative, os.lstat(_full(root, relative)))


def _entry(root: Path, relative: bytes, info: os.stat_result) -> Entry:
    full = _full(root, relative)
    if stat.S_ISLNK(info.st_mode):
        target = os.readlink(full)  # noqa: PTH115
        return Entry(relative, "l", False, 0, hashlib.sha256(target).hexdigest())
    if stat.S_ISDIR(info.st_mode):
        return Entry(relative, "d", False, 0, "-")
    if not stat.S_ISREG(info.st_mode):
        raise ValueError(f"{os.fsdecode(relative)} is a device, socket or pipe; leave it out with --exclude")
    with open(full, "rb") as file:
        identity = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(relative, "f", bool(info.st_mode & stat.S_IXUSR), info.st_size, identity)


def _full(root: Path, relative: bytes) -> bytes:
    return os.path.join(os.fsencode(root), relative)  # noqa: PTH118 - bytes paths: names need not be UTF-8


def read_entries(root: Path, paths: Iterable[bytes]) -> Iterator[tuple[bytes, Callable[[], Entry]]]:
    """Each path in turn with what gives its entry, or raises as `entry_of`.

    Large files are read by a few threads meanwhile (hashing lets go of Python's lock); small ones are not worth one.
    """
    from concurrent.futures import ThreadPoolExecutor  # only what reads content pays for it

    with ThreadPoolExecutor(READERS_MAX, thread_name_prefix="reader") as readers:  # starts a thread when it has work
        asked: list[tuple[bytes, Callable[[], Entry]]] = []
        for path in paths:
            try:
                info = os.lstat(_full(root, path))
            except OSError as error:
                asked.append((path, partial(_raise, error)))
                continue
            if stat.S_ISREG(info.st_mode) and info.st_size >= LARGE_BYTES:
                asked.append((path, readers.submit(_entry, root, path, info).result))
            else:
                asked.append((path, partial(_entry, root, path, info)))
        yield from asked


def _raise(error: OSError) -> Entry:
    raise error


def walk(root: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[bytes]:
    """The relative paths of all files, links and empty directories below `root`.

    Raises OSError for a folder that cannot be read, or hands it to `on_error` and goes on with the others.
    """
    pending = [b""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(os.path.join(os.fsencode(root), folder)) as entries:  # noqa: PTH118
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        if not found and folder:
            yield folder
        for entry in found:
            relative = os.path.join(folder, entry.name)  # noqa: PTH118
            if entry.is_dir(follow_symlinks=False):
                pending.append(relative)
            else:
                yield relative


def manifest_of(root: Path) -> list[Entry]:
    """The manifest of everything below `root`. Raises OSError, and ValueError as `entry_of`."""
    return [entry() for _, entry in read_entries(root, walk(root))]
