"""Inputs without coverage guidance: known ones, damaged. For the quick pass, and where atheris has no wheel."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
BYTES_MAX = 20_000
ODD = [
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\\udc80", b"\\u0000", b"9" * 400, b"-1", b"1e999", b"NaN", b"Infinity", b"{",
    b"[",
    b'"', b"'", b"\n", b"\r", b"\t", b"\x1b[2J", b"\xe2\x80\xae", b"..", b"/", b"%00", b"&a ", b"*a", b"<<: ", b"!!",
    b"18446744073709551616", b"\xc2\xb2", b"- ", b": ", b"#", b"=", b",", b"|", b"(" * 50, b"[" * 2000, b"\xef\xbb\xbf",
]  # fmt: skip


def seeds(target: str) -> list[bytes]:
    """The corpus of a target that is kept in the repository."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def damaged(known: Sequence[bytes], chance: random.Random, count: int) -> Iterator[bytes]:
    """So many inputs made of known ones: pieces replaced, repeated, cut and joined."""
    for _ in range(count):
        text = bytearray(chance.choice(known))
        for _ in range(chance.randrange(1, 6)):
            at, length = chance.randrange(len(text) + 1), chance.choice((0, 0, 1, 2, 4, 16, 64))
            how = chance.randrange(5)
            if how == 0:
                text[at : at + length] = chance.choice(ODD)
            elif how == 1:
                text[at : at + length] = chance.randbytes(length)
            elif how == 2:
                other = chance.choice(known)
                start = chance.randrange(len(other) + 1)
                text[at : at + length] = other[start : start + chance.randrange(200)]
            elif how == 3:
                text[at:at] = text[at : at + length] * chance.randrange(1, 8)
            else:
                del text[at : at + length]
        yield bytes(text[:BYTES_MAX])
