"""The digest of what an attempt returns: travels with the record of its end, so that the controller can tell whether
what it received is what was there. The controller's own copy of the rule is `nodes/output_digest.py` (a test holds the
two together).

SHA-256 over lines `size SP identity SP path NUL` of the regular files below out/, sorted by the bytes of their paths.
`identity` is the SHA-256 (hex) of the content; of a file above 64 MiB that of the SHA-256 digests (bytes) of its blocks
of 64 MiB one after another, so that several cores can share one large file. Links and folders are left out: the
receiver makes links anew (see `out_links`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, Iterator, List, Tuple

BLOCK_BYTES = 64 << 20
_READ_BYTES = 1 << 20
_THREADS_MAX = 8
_LARGE_BYTES = 1 << 20  # below, a thread costs more than it saves


def digest_of(root: str) -> str:
    """The digest of the files below `root`. Raises OSError for a file or folder that cannot be read."""
    small: List[Tuple[bytes, int, str]] = []
    large: List[Tuple[bytes, int]] = []
    base = os.fsencode(root)
    for path, size_bytes in _files(base):
        if size_bytes < _LARGE_BYTES:
            small.append((path, size_bytes, _block(base + b"/" + path, 0).hexdigest()))
        else:
            large.append((path, size_bytes))
    if large:
        small += _by_threads(base, large)
    whole = hashlib.sha256()
    for path, size_bytes, identity in sorted(small):
        whole.update(f"{size_bytes} {identity} ".encode() + path + b"\0")
    return whole.hexdigest()


def _by_threads(base: bytes, files: List[Tuple[bytes, int]]) -> Iterator[Tuple[bytes, int, str]]:
    from concurrent.futures import ThreadPoolExecutor  # not for small outputs: it would cost them milliseconds

    with ThreadPoolExecutor(min(_THREADS_MAX, len(os.sched_getaffinity(0)))) as threads:
        asked = [
            (path, size, [threads.submit(_block, base + b"/" + path, at) for at in range(0, size, BLOCK_BYTES)])
            for path, size in files
        ]
        for path, size_bytes, blocks in asked:
            yield path, size_bytes, _identity([block.result() for block in blocks])


def _identity(blocks: List[Any]) -> str:
    if len(blocks) == 1:
        return str(blocks[0].hexdigest())
    return hashlib.sha256(b"".join(block.digest() for block in blocks)).hexdigest()


def _block(path: bytes, at: int) -> Any:  # noqa: ANN401 - hashlib's own type has no public name in Python 3.9
    """The SHA-256 of one block of a file, which `at` is the offset of. Raises OSError."""
    whole = hashlib.sha256()
    end = at + BLOCK_BYTES
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while at < end and (data := os.pread(file, min(_READ_BYTES, end - at), at)):
            whole.update(data)
            at += len(data)
    finally:
        os.close(file)
    return whole


def _files(base: bytes) -> Iterator[Tuple[bytes, int]]:
    """Path and size of each regular file."""
    pending = [b""]
    while pending:
        prefix = pending.pop()
        with os.scandir(base + b"/" + prefix) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    pending.append(prefix + entry.name + b"/")
                elif stat.S_ISREG(info.st_mode):
                    yield prefix + entry.name, info.st_size
