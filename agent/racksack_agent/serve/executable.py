"""Whether a program is whole: a power cut soon after it was written leaves it empty, cut, or full of zeros."""

from __future__ import annotations

import os
import struct

_ELF64 = b"\x7fELF\x02\x01"  # of 64 bits, little endian
_HEADER_BYTES = 64
_SECTIONS = struct.Struct("<Q10xHHH")  # at 40: where the section headers are; the size and number of them


def is_whole(path: str) -> bool:
    """True for scripts and for whole ELF files, whose section headers come last; for others that are not empty, too."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEADER_BYTES)
            size_bytes = os.fstat(file.fileno()).st_size
            file.seek(max(0, size_bytes - 4096))
            tail = file.read()
    except OSError:
        return False
    if not head.strip(b"\0"):
        return False
    if not head.startswith(_ELF64) or len(head) < _HEADER_BYTES:
        return True
    at, entry_bytes, entries, _ = _SECTIONS.unpack_from(head, 40)
    return bool(at + entry_bytes * entries <= size_bytes) and bool(tail.strip(b"\0"))
