"""Sizes, durations and CPU counts as people write them, and back.

Memory letters are binary (G = GiB = 2**30 bytes), as in Slurm and in every memory module's label. A bare number is
refused, because Slurm would read it as MB and most people mean GB; the message offers the spelling.
"""

from __future__ import annotations

import re

_EXPONENTS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_MEMORY = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?\s*(?:([KMGTP])(?:I?B)?|(B))", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CLOCK = re.compile(r"(?:([0-9]{1,9})-)?([0-9]{1,9}):([0-9]{1,2})(?::([0-9]{1,2}))?")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(w|d|h|ms|m|s)", re.IGNORECASE)
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}

MEMORY_BYTES_MAX = 2**60
DURATION_S_MIN = 0.001  # so that every duration is written without an exponent
DURATION_S_MAX = 10 * 365 * 86400.0
CPUS_MAX = 65536


def _word(text: object) -> str:
    """The value as it was written, cut where quoting it in a message would drown the message."""
    word = str(text).strip()
    return word if len(word) <= 40 else f"{word[:40]}..."


def parse_memory(text: object) -> int:
    """Bytes of a size such as `32G`, `32GiB` or `512M`. Raises ValueError with a sentence."""
    word = _word(text)
    if isinstance(text, (int, float)) or _NUMBER.fullmatch(word):
        raise ValueError(f"{word} has no unit; write {word}G for gigabytes or {word}M for megabytes")
    match = _MEMORY.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is not a size; write a number and a unit, such as 32G, 512M or 1.5T")
    unit = 1024 ** _EXPONENTS.get((match[3] or "").upper(), 0)
    decimals = match[2] or ""
    size: int = int(match[1] + decimals) * unit // 10 ** len(decimals)
    if not 1 <= size <= MEMORY_BYTES_MAX:
        raise ValueError(f"{word!r} is outside what a machine can have; write a size above zero and at most 1024P")
    return size


def format_memory(size_bytes: int) -> str:
    """A size in the largest unit that keeps it readable: 512M, 1.5G, 32G."""
    size, power = float(size_bytes), 0
    while size >= 1024 and power < len(_EXPONENTS):
        size, power = size / 1024, power + 1
    digits = f"{size:.0f}" if size >= 100 or size == int(size) else f"{size:.1f}"
    return digits + "BKMGTP"[power]


def parse_duration(text: object) -> float:
    """Seconds of a duration such as `2h`, `90m`, `1h30m` or `1-12:00:00`. Raises ValueError with a sentence."""
    word = _word(text)
    if isinstance(text, (int, float)) or _NUMBER.fullmatch(word):
        raise ValueError(f"{word} has no unit; write {word}m for minutes, {word}h for hours or {word}s for seconds")
    seconds = _clock_seconds(word)
    if seconds is None:
        seconds = _unit_seconds(word)
    if seconds is None:
        raise ValueError(f"{word!r} is not a duration; write 2h, 90m, 1h30m, 2:00:00 or 1-12:00:00 (days-hours:min:s)")
    if not DURATION_S_MIN <= seconds <= DURATION_S_MAX:
        raise ValueError(f"{word!r} is not a usable duration; write at least 0.001s and at most 10 years")
    return seconds


def _clock_seconds(word: str) -> float | None:
    """`[D-]H:M[:S]`; hours and minutes, not Slurm's minutes and seconds, when there are two parts."""
    match = _CLOCK.fullmatch(word)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _unit_seconds(word: str) -> float | None:
    compact = word.replace(" ", "")
    if not compact or _PART.sub("", compact):
        return None
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(compact))


def format_duration(duration_s: float) -> str:
    """A duration in its two largest units: 45s, 2m10s, 3h05m, 2d4h."""
    seconds = round(duration_s)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600}h"


def parse_cpus(text: object) -> float:
    """A CPU count, whole or in thousandths (`0.5`). Raises ValueError with a sentence."""
    word = _word(text)
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{word!r} is not a number of CPUs; write a number above zero, such as 4 or 0.5")
    cpus = round(float(word), 3)
    if not 0 < cpus <= CPUS_MAX:
        raise ValueError(f"{word} CPUs cannot be had; write a number from 0.001 to {CPUS_MAX}")
    return cpus


def format_cpus(cpus: float) -> str:
    """`4`, `0.5`: without a trailing `.0`."""
    return f"{cpus:g}"


def exact_memory(size_bytes: int) -> str:
    """A size that `parse_memory` reads back to the same number of bytes: 32G, 1536M, 1000B."""
    for letter in "PTGMK":
        unit = 1024 ** _EXPONENTS[letter]
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit}{letter}"
    return f"{size_bytes}B"


def exact_duration(duration_s: float) -> str:
    """A duration that `parse_duration` reads back to the same number of seconds: 2h, 90m, 0.25s."""
    for letter in "dhm":
        if duration_s >= _SECONDS[letter] and duration_s % _SECONDS[letter] == 0:
            return f"{duration_s // _SECONDS[letter]:.0f}{letter}"
    return f"{repr(float(duration_s)).removesuffix('.0')}s"
