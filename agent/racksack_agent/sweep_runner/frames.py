"""Frames: what workers send to the runner, and what the runner appends to `sweep/results.bin` for the controller.

A frame is two lengths (little endian, 32 bits each), a header in JSON of the first length, and a body in bytes of the
second. The runner appends the frames of workers as they are, so a result is encoded once, where it was computed.

Headers have `k`, the kind, and `c`, the chunk:

    ok      results: `n` points; `lo` (points lo, lo+1, ...) or else a first column of 64-bit points in the body;
            `cols`: [[name, kind, bytes], ...] of the columns in the body; `t`: bytes of the seconds each took (f)
    report  what running points reported: `n` reports with the columns of `ok`, among them `step`; `t`: bytes of the
            seconds since each point began
    fail    `p`: [[point, kind, sentence, seconds], ...]; kind: error, timeout, crash, oom
    back    `p`: [[lo, hi], ...]: points that the runner gives back unstarted, because it was asked to
    ready   the workers are up: `slots`, `s` (seconds it took), `ram` (of the checked copy in memory: `checksum`,
            `bytes`; null where there is none)
    beat    the runner is alive: `busy` workers, `restarts`, and what each works on

Kinds of columns: d (float64), q (int64), j (a JSON list). All numbers are little endian.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Iterator, Tuple

LENGTHS = struct.Struct("<II")
FRAME_BYTES_MAX = 64 << 20

Header = Dict[str, Any]


def encode(header: Header, body: bytes = b"") -> bytes:
    """One frame."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


class Splitter:
    """Takes bytes as they come and gives whole frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Tuple[Header, bytes, bytes]]:
        """The header, the body and all bytes of each frame that is complete by now. Raises ValueError for nonsense."""
        self._rest += data
        start = 0
        try:
            while len(self._rest) - start >= LENGTHS.size:
                head_bytes, body_bytes = LENGTHS.unpack_from(self._rest, start)
                body_at = start + LENGTHS.size + head_bytes
                end = body_at + body_bytes
                if end - start > FRAME_BYTES_MAX:
                    raise ValueError(f"a frame of {end - start} bytes")
                if len(self._rest) < end:
                    break
                header = _header(bytes(self._rest[start + LENGTHS.size : body_at]))
                yield header, bytes(self._rest[body_at:end]), bytes(self._rest[start:end])
                start = end
        finally:
            del self._rest[:start]


def _header(text: bytes) -> Header:
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("a header that is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header
