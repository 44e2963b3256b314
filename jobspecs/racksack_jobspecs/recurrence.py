"""When a recurring job runs: plain words or cron's five fields.

Plain words are turned into cron's fields, which the controller understands; nothing else is kept.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY = rf"(?:{'|'.join(_DAYS)})[a-z]*"
_ON_DAYS = re.compile(rf"({_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*) +([0-9]{{1,2}}):([0-9]{{2}})")
_AT = re.compile(r"(?:daily +(?:at +)?)?([0-9]{1,2}):([0-9]{2})")
_INTERVAL = re.compile(r"(?:every +)?([0-9]{1,3}) ?(m|min|minutes?|h|hours?)")
_WORDS = {
    "hourly": "0 * * * *",
    "every hour": "0 * * * *",
    "daily": "0 0 * * *",
    "every day": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}
_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PART = re.compile(r"(\*|[0-9a-z]{1,3}(?:-[0-9a-z]{1,3})?)(?:/([0-9]{1,2}))?")
_HOW = 'write "Mon 02:00", "daily 18:30", "15m", "2h", or cron\'s five fields such as "0 2 * * 1"'

Overlap = Literal["skip", "queue"]


class Recurrence(msgspec.Struct, frozen=True):
    """When to run again and again."""

    cron: str  # minute, hour, day of the month, month, day of the week
    zone: str = ""  # an IANA name such as Europe/Berlin; empty: the controller's
    overlap: Overlap = "skip"  # what to do while the run before is not over: leave this one out, or wait for it


def cron_of(text: str) -> str:
    """Cron's five fields for what was written. Raises ValueError with a sentence."""
    words = " ".join(text.strip().lower().split())
    if words in _WORDS:
        return _WORDS[words]
    if found := _AT.fullmatch(words):
        return _clock(found[1], found[2], "*", text)
    if found := _ON_DAYS.fullmatch(words):
        days = re.sub(r"[a-z]+", lambda day: str(_DAYS.index(day[0][:3])), found[1])
        return _clock(found[2], found[3], days, text)
    if found := _INTERVAL.fullmatch(words):
        return _interval(int(found[1]), found[2][0], text)
    fields = words.split(" ")
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{text.strip()[:60]!r} does not say when to run; {_HOW}")
    for field, (low, high) in zip(fields, _FIELDS, strict=True):
        if not all(_is_part(part, low, high) for part in field.split(",")):
            raise ValueError(f"{field[:40]!r} is not a field of a cron expression; {_HOW}")
    return " ".join(fields)


def _clock(hour: str, minute: str, days: str, text: str) -> str:
    if int(hour) > 23 or int(minute) > 59:
        raise ValueError(f"{text.strip()[:60]!r} names no time of the day; {_HOW}")
    return f"{int(minute)} {int(hour)} * * {days}"


def _interval(count: int, unit: str, text: str) -> str:
    """Only intervals that divide the hour or the day: others would not be even."""
    whole = 60 if unit == "m" else 24
    if not 0 < count <= whole or whole % count:
        raise ValueError(f"{text.strip()[:60]!r} does not divide the {'hour' if unit == 'm' else 'day'}; {_HOW}")
    if unit == "m":
        return "0 * * * *" if count == whole else f"*/{count} * * * *"
    return "0 0 * * *" if count == whole else f"0 */{count} * * *"


def _is_part(part: str, low: int, high: int) -> bool:
    match = _PART.fullmatch(part)
    if match is None or (match[2] is not None and not 0 < int(match[2]) <= high):
        return False
    if match[1] == "*":
        return True
    ends = [_number(word, low, high) for word in match[1].split("-")]
    known = [end for end in ends if end is not None and low <= end <= high]
    return len(known) == len(ends) and known == sorted(known)


def _number(word: str, low: int, high: int) -> int | None:
    if word.isdigit():
        return int(word)
    names = _DAYS if high == 7 else _MONTHS if high == 12 else ()
    return names.index(word) + low if word in names else None
