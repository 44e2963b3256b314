"""What the controller and a sandbox process say to each other: length and MessagePack, over the process's pipes."""

from __future__ import annotations

import struct
from typing import BinaryIO, Literal

import msgspec

REPLY_BYTES_MAX = 64 * 1024**2
LENGTH = struct.Struct("!I")


class Request(msgspec.Struct, frozen=True):
    """One computation."""

    operation: str  # a name in `operations.TABLE`
    payload: bytes  # what that takes
    cpu_s: float  # so much processor time it may use
    memory_bytes: int  # so much more address space than the process has already


class Reply(msgspec.Struct, frozen=True):
    """What came of it."""

    kind: Literal["ok", "refused", "memory", "fault"]
    payload: bytes = b""  # of `ok`: what the operation gives
    sentence: str = ""  # of `refused`: why; of `fault`: the exception's name and text
    resident_bytes: int = 0  # what the process has in memory by now


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def send(stream: BinaryIO, message: Request | Reply) -> None:
    """Write one message. Raises OSError."""
    data = encode(message)
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """The next message's bytes; None at the end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None
