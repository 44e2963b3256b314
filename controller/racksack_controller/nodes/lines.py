"""Lines of JSON from a node, bounded while they are read and typed as they are decoded.

Nothing a node sends is first made into objects of any kind and looked at afterwards: that is what costs gigabytes and
minutes. A line has a limit that depends on what was asked for, a limit on how many values it may hold, and a type.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from racksack_controller.nodes.transport import Pipes

READ_BYTES = 256 * 1024
NOTICE_BYTES_MAX = 1024**2  # of what a node says unasked
ANSWER_BYTES_MAX = 4 * 1024**2  # of most answers
VALUES_MAX = 500_000  # in one line: more would take the event loop's time, however short each is
REPAIR_AT_ONCE_BYTES = 64 * 1024
SENTENCE_CHARS_MAX = 300

T = TypeVar("T")


class LineTooLong(Exception):  # noqa: N818 - told apart from OSError, never shown
    """The other side sent more than the limit without a newline; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class Lines:
    """Splits what comes through a pipe into lines."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._buffer = bytearray()

    async def next(self, limit: Callable[[], int]) -> bytes:
        """The next line without its newline, of at most `limit()` bytes; empty at the end.

        Raises OSError, LineTooLong.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit():
                raise LineTooLong(limit())
            data = await self._pipes.read(READ_BYTES)
            if not data:
                return b""
            self._buffer += data
        if end > limit():
            raise LineTooLong(limit())
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line or b" "  # an empty line is not the end


def decode(line: bytes | msgspec.Raw, kind: Any) -> Any:  # noqa: ANN401 - a `kind`
    """A JSON text as a `kind`. Raises ValueError with a short sentence, whatever the text is."""
    try:
        return msgspec.json.decode(line, type=kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise ValueError(str(error)[:SENTENCE_CHARS_MAX]) from None


async def repaired(line: bytes) -> bytes:
    """The line with half surrogate pairs, which UTF-8 cannot carry further, as visible escapes. Raises ValueError.

    Only lines with a surrogate in them are searched, long ones outside of the event loop.
    """
    if line.count(b",") > VALUES_MAX:
        raise ValueError(f"it holds more than {VALUES_MAX} values")
    if b"\\ud" not in line and b"\\uD" not in line:
        return line
    if len(line) <= REPAIR_AT_ONCE_BYTES:
        return without_lone_surrogates(line)
    return await asyncio.to_thread(without_lone_surrogates, line)


_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def without_lone_surrogates(text: bytes) -> bytes:
    r"""A JSON text in which `\udce9` without its other half stands as `\\udce9`."""
    return _ESCAPES.sub(lambda found: b"\\\\" + found[1] if found[1] else found[0], text)
