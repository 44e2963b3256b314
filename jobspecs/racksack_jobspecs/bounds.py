"""How large a number or how long a text from outside may be: types that msgspec checks when it decodes.

Two ways, and each value goes one of them. What decisions rest on is *refused* when it is out of range (the `Annotated`
types). What is only shown or measured is *cleaned* (`measured`, `cut`): a strange figure is unknown, a long text is
cut, and the message that carries it still counts.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

BYTES_MAX = 2**60  # sums over a rack of 8 such nodes still fit into 64 bits
TIME_S_MAX = 1e11  # Unix seconds; the year 5138, which every calendar function takes
TEXT_CHARS_MAX = 2000

Bytes = Annotated[int, Meta(ge=0, le=BYTES_MAX)]
Count = Annotated[int, Meta(ge=0, le=2**40)]
TimeS = Annotated[float, Meta(ge=0, le=TIME_S_MAX)]
Name = Annotated[str, Meta(max_length=200)]
PathText = Annotated[str, Meta(max_length=4096)]

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what was asked for: also for half a character and for deep nesting."""

Number = TypeVar("Number", int, float)


def measured(value: Number | None, low: float, high: float) -> Number | None:
    """The value, or None where it is outside of `low`..`high` (or no number): unknown is better than absurd."""
    return value if value is not None and low <= value <= high else None


def cut(text: str, chars: int = TEXT_CHARS_MAX) -> str:
    """At most `chars` characters of a text; the end of a longer one is `...`."""
    return text if len(text) <= chars else text[: chars - 3] + "..."
