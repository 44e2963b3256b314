"""The digest of a project's content: the agent's own copy of the rule in `racksack_jobspecs.snapshot` (a test holds
the two together).

SHA-256 over manifest lines `kind SP executable SP size SP identity SP path NUL`, sorted by path bytes; kind is f, l
or d (an empty folder), identity the SHA-256 of the bytes or of the link's target, "-" for a folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Iterator, List, Tuple

_BLOCK_BYTES = 1 << 20
_LARGE_BYTES = 256 * 1024  # smaller files are not worth a thread
_READERS_MAX = min(4, os.cpu_count() or 1)


def digest_and_size(root: str) -> Tuple[str, int]:
    """The digest of everything below `root` and the sum of the files' bytes. Raises OSError, ValueError for a device
    or pipe.
    """
    lines: List[Tuple[bytes, bytes]] = []
    later: List[Tuple[bytes, Future[Tuple[bytes, int]]]] = []
    size_bytes = 0
    at = os.fsencode(root)
    with ThreadPoolExecutor(_READERS_MAX) as readers:  # hashing lets go of Python's lock
        for path in _walk(at):
            info = os.lstat(at + b"/" + path)
            if stat.S_ISREG(info.st_mode) and info.st_size >= _LARGE_BYTES:
                later.append((path, readers.submit(_line, at, path, info)))
                continue
            line, entry_bytes = _line(at, path, info)
            lines.append((path, line))
            size_bytes += entry_bytes
        for path, asked in later:
            line, entry_bytes = asked.result()
            lines.append((path, line))
            size_bytes += entry_bytes
    whole = hashlib.sha256()
    for _, line in sorted(lines):
        whole.update(line)
    return whole.hexdigest(), size_bytes


def _line(root: bytes, path: bytes, info: os.stat_result) -> Tuple[bytes, int]:
    full = root + b"/" + path
    if stat.S_ISLNK(info.st_mode):
        return _format("l", False, 0, hashlib.sha256(os.readlink(full)).hexdigest(), path), 0
    if stat.S_ISDIR(info.st_mode):
        return _format("d", False, 0, "-", path), 0
    if not stat.S_ISREG(info.st_mode):
        raise ValueError(f"{os.fsdecode(path)!r} is a device, socket or pipe")
    return _format("f", bool(info.st_mode & stat.S_IXUSR), info.st_size, _file(full), path), info.st_size


def _format(kind: str, executable: bool, size_bytes: int, identity: str, path: bytes) -> bytes:
    return f"{kind} {int(executable)} {size_bytes} {identity} ".encode() + path + b"\0"


def _file(path: bytes) -> str:
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            whole.update(block)
    return whole.hexdigest()


def _walk(root: bytes) -> Iterator[bytes]:
    pending = [b""]
    while pending:
        folder = pending.pop()
        empty = True
        with os.scandir(root + b"/" + folder) as entries:
            for entry in entries:
                empty = False
                path = folder + b"/" + entry.name if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    yield path
        if empty and folder:
            yield folder
