"""The digest of a received folder, to be compared with the one that the node computed when the attempt ended.

The controller's own copy of the rule in `racksack_agent.supervisor.output_digest`: SHA-256 over lines
`size SP identity SP path NUL` of the regular files, sorted by the bytes of their paths; `identity` is the SHA-256 (hex)
of the content, of a file above 64 MiB that of the digests of its blocks.
"""

# Paths are bytes here, since names need not be UTF-8.
# ruff: noqa: PTH118

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK_BYTES = 64 * 1024**2
READ_BYTES = 1024**2
LARGE_BYTES = 1024**2  # below, a thread costs more than it saves
THREADS_MAX = 4


def digest_of(root: Path) -> str:
    """The digest of the files below `root`. Raises OSError."""
    base = os.fsencode(root)
    lines: list[tuple[bytes, int, str]] = []
    large: list[tuple[bytes, int]] = []
    for path, size_bytes in _files(base):
        if size_bytes < LARGE_BYTES:
            lines.append((path, size_bytes, _block(os.path.join(base, path), 0).hex()))
        else:
            large.append((path, size_bytes))
    if large:
        lines += _by_threads(base, large)
    whole = hashlib.sha256()
    for path, size_bytes, identity in sorted(lines):
        whole.update(f"{size_bytes} {identity} ".encode() + path + b"\0")
    return whole.hexdigest()


def _by_threads(base: bytes, files: list[tuple[bytes, int]]) -> Iterator[tuple[bytes, int, str]]:
    with ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), "digest") as threads:
        asked = [
            (path, size, [threads.submit(_block, os.path.join(base, path), at) for at in range(0, size, BLOCK_BYTES)])
            for path, size in files
        ]
        for path, size_bytes, blocks in asked:
            digests = [block.result() for block in blocks]
            one = len(digests) == 1
            yield path, size_bytes, digests[0].hex() if one else hashlib.sha256(b"".join(digests)).hexdigest()


def _block(path: bytes, at: int) -> bytes:
    """The SHA-256 of one block of a file, which `at` is the offset of."""
    whole = hashlib.sha256()
    end = at + BLOCK_BYTES
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while at < end and (data := os.pread(file, min(READ_BYTES, end - at), at)):
            whole.update(data)
            at += len(data)
    finally:
        os.close(file)
    return whole.digest()


def _files(base: bytes) -> Iterator[tuple[bytes, int]]:
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(base, folder)) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                path = os.path.join(folder, entry.name)
                if stat.S_ISDIR(info.st_mode):
                    pending.append(path)
                elif stat.S_ISREG(info.st_mode):
                    yield path, info.st_size
