"""Reads a tar archive that nobody vouches for: a few kinds of entries, each header further on than the one before.

Python's tarfile is not used for it. Depending on its release a header with a negative size is its own successor, so
that reading never ends (CVE-2025-8194), patterns take quadratic time (CVE-2024-6232), and sparse files expand. Agents
send ustar and pax (POSIX.1-2001, pax: "Interchange Format") without any of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

BLOCK = 512
PAX_BYTES_MAX = 64 * 1024  # of one extended header: two paths and a few numbers

Kind = Literal["file", "folder", "link", "hard link", "other"]
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"5": "folder",
    b"2": "link",
    b"1": "hard link",
}


class DamagedArchive(ValueError):  # noqa: N818 - a word for the reader of a sentence
    """The bytes are no archive of the kind that agents send; the sentence says what is wrong."""


class Member(NamedTuple):
    """One entry; its content is `data[start : start + size]` of the archive. mtime: Unix seconds, 0 where unknown."""

    name: bytes
    kind: Kind
    target: bytes
    size: int
    mode: int
    mtime: float
    start: int


def members(data: bytes) -> Iterator[Member]:
    """The entries of an archive in turn. Raises DamagedArchive."""
    at = 0
    extended: dict[bytes, bytes] = {}
    while True:
        header = data[at : at + BLOCK]
        if len(header) < BLOCK:
            raise DamagedArchive("it ends in the middle of a header")
        if not header.strip(b"\0"):
            return  # an empty block ends it
        member = _member(header, extended, at + BLOCK)
        if member.start + member.size > len(data):
            raise DamagedArchive("it ends in the middle of a file")
        if header[156:157] in (b"x", b"g"):
            if member.size > PAX_BYTES_MAX:
                raise DamagedArchive("an extended header is too long")
            extended = _extended(data[member.start : member.start + member.size])
        else:
            yield member
            extended = {}
        at = member.start + -(-member.size // BLOCK) * BLOCK


def _member(header: bytes, extended: dict[bytes, bytes], start: int) -> Member:
    """Read one header. Raises DamagedArchive."""
    if _number(header[148:156], "checksum") != sum(header[:148]) + 8 * 0x20 + sum(header[156:]):
        raise DamagedArchive("the checksum of a header is wrong")
    kind = _KINDS.get(header[156:157], "other")
    has_content = kind == "file" or header[156:157] in (b"x", b"g")
    size = _number(extended.get(b"size", header[124:136]), "size", base=10 if b"size" in extended else 8)
    name, prefix = _text(header[:100]), _text(header[345:500]) if header[257:263] == b"ustar\0" else b""
    return Member(
        name=extended.get(b"path", prefix + b"/" + name if prefix else name),
        kind=kind,
        target=extended.get(b"linkpath", _text(header[157:257])),
        size=size if has_content else 0,
        mode=_number(header[100:108], "mode"),
        mtime=_time(extended.get(b"mtime"), header[136:148]),
        start=start,
    )


def _number(field: bytes, what: str, base: int = 8) -> int:
    """A number in digits, without a sign. Raises DamagedArchive."""
    digits = field.strip(b"\0 ")
    if not digits:
        return 0
    if not digits.isdigit() or len(digits) > 12:
        raise DamagedArchive(f"the {what} in a header is no number")
    try:
        return int(digits, base)
    except ValueError:
        raise DamagedArchive(f"the {what} in a header is no number") from None


def _time(extended: bytes | None, field: bytes) -> float:
    """When a file was changed; what cannot be read or lies outside of 1970 to 2242 is not known."""
    text = field.strip(b"\0 ") if extended is None else extended
    try:
        found = float(int(text or b"0", 8)) if extended is None else float(text[:32])
    except ValueError:
        return 0.0
    return found if 0 < found < 2**33 else 0.0


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _extended(text: bytes) -> dict[bytes, bytes]:
    """The records `length key=value` of a pax header. Raises DamagedArchive."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(text):
        digits, blank, _ = text[at : at + 8].partition(b" ")
        if not blank or not digits.isdigit():
            raise DamagedArchive("an extended header cannot be read")
        end = at + int(digits)
        record = text[at + len(digits) + 1 : end]
        if end > len(text) or not record.endswith(b"\n"):
            raise DamagedArchive("an extended header cannot be read")
        key, _, value = record[:-1].partition(b"=")
        found[key] = value
        at = end
    return found
