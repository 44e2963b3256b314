"""Numbers in what tools print: `isdigit` alone takes `²`, and `int` takes digits by the thousand or raises."""

from __future__ import annotations

from typing import Optional

_DIGITS_MAX = 18


def whole(text: object) -> Optional[int]:
    """A whole number in digits, below 10**18 as what a machine can have; None for any other text."""
    word = str(text).strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) <= _DIGITS_MAX else None
