"""Folds of a sweep: every point is computed on each of them, and ranked by what it comes to over all.

    kfold:5                                            the function gets fold (0 to 4) and folds (5)
    walk-forward:from=2012-01-01,to=2024-01-01,train=2y,test=3mo,step=3mo,purge=5d
    walk-forward:from=0,to=5000,train=1000,test=250    the same over row numbers

Of a walk-forward fold the function gets fold, train_start, train_end, test_start and test_end; an end is the first
moment that no longer belongs to it. A test never overlaps its training, and begins `purge` after its end: what looks
ahead by less than that cannot leak from one into the other.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from racksack_jobspecs.sweep.spec import Params, Value

FOLDS_MAX = 1000
_SPAN = re.compile(r"([0-9]{1,6})(d|w|mo|y)?")
_KEYS = ("from", "to", "train", "test", "step", "purge")
_EDGES = ("train_start", "train_end", "test_start", "test_end")


def parse(text: str) -> tuple[Params, ...]:
    """The arguments of each fold. Raises ValueError with a sentence."""
    kind, _, rest = text.strip().partition(":")
    if kind == "kfold":
        if not rest.isdecimal() or not 2 <= int(rest) <= FOLDS_MAX:
            raise ValueError(f"kfold needs a number of folds from 2 to {FOLDS_MAX}, such as kfold:5")
        return tuple({"fold": fold, "folds": int(rest)} for fold in range(int(rest)))
    if kind != "walk-forward":
        raise ValueError(
            f"{kind[:40]!r} is not a kind of folds; write kfold:5 or walk-forward:from=...,to=...,train=..."
        )
    return _walk(_settings(rest))


def _settings(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or key not in _KEYS or key in found:
            raise ValueError(f"{part[:40]!r} is not one of {', '.join(f'{one}=...' for one in _KEYS)}, each given once")
        found[key] = value
    missing = [key for key in ("from", "to", "train", "test") if key not in found]
    if missing:
        raise ValueError(f"walk-forward needs {missing[0]}=, such as from=2012-01-01,to=2024-01-01,train=2y,test=3mo")
    return found


def _walk(settings: Mapping[str, str]) -> tuple[Params, ...]:
    first, last = _moment(settings["from"]), _moment(settings["to"])
    if isinstance(first, date) != isinstance(last, date):
        raise ValueError("from and to must both be dates (2012-01-01) or both be row numbers")
    step = settings.get("step", settings["test"])
    found: list[Params] = []
    train_start = first
    while True:
        train_end = _plus(train_start, settings["train"])
        test_start = _plus(train_end, settings["purge"]) if "purge" in settings else train_end
        test_end = _plus(test_start, settings["test"])
        if test_end > last:  # type: ignore[operator] # both are dates or both are numbers
            break
        edges = (train_start, train_end, test_start, test_end)
        found.append({"fold": len(found), **dict(zip(_EDGES, map(_plain, edges), strict=True))})
        following = _plus(train_start, step)
        if following <= train_start:  # type: ignore[operator]
            raise ValueError("step=0 would never end; write a larger step")
        if len(found) > FOLDS_MAX:
            raise ValueError(f"these are more than {FOLDS_MAX} folds; write a larger step")
        train_start = following
    if len(found) < 2:
        raise ValueError(f"there is room for {len(found)} folds; write a shorter train or test, or a later to")
    return tuple(found)


def _moment(text: str) -> date | int:
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is neither a date such as 2012-01-31 nor a row number") from None


def _plus(moment: date | int, span: str) -> date | int:
    match = _SPAN.fullmatch(span)
    if match is None or (match[2] is None) != isinstance(moment, int):
        example = "250" if isinstance(moment, int) else "10d, 2w, 3mo or 2y"
        raise ValueError(f"{span[:40]!r} is not a length here; write one such as {example}")
    count, unit = int(match[1]), match[2]
    if isinstance(moment, int):
        return moment + count
    try:
        if unit in ("d", "w"):
            return moment + timedelta(days=count * (7 if unit == "w" else 1))
        months = moment.month - 1 + count * (12 if unit == "y" else 1)
        year, month = moment.year + months // 12, months % 12 + 1
        return date(year, month, min(moment.day, calendar.monthrange(year, month)[1]))
    except (OverflowError, ValueError):
        raise ValueError(f"{span} after {moment} is beyond the calendar; write shorter lengths") from None


def _plain(moment: date | int) -> Value:
    return moment.isoformat() if isinstance(moment, date) else moment


def listed(folds: Sequence[Params]) -> tuple[Params, ...]:
    """Folds that were written out, numbered. Raises ValueError for one whose test overlaps its training."""
    if not 2 <= len(folds) <= FOLDS_MAX:
        raise ValueError(f"there must be 2 to {FOLDS_MAX} folds, not {len(folds)}")
    for number, fold in enumerate(folds):
        edges = [fold.get(name) for name in _EDGES]
        if any(edge is None for edge in edges):
            continue  # arguments of another kind
        start, end, test_start, test_end = edges
        try:
            overlaps = start < test_end and test_start < end  # type: ignore[operator]
        except TypeError:
            raise ValueError(f"fold {number}: its four edges are not all dates or all numbers") from None
        if overlaps:
            raise ValueError(
                f"fold {number}: its test ({test_start} to {test_end}) overlaps its training ({start} to {end}), so "
                "results would look ahead; move one of them"
            )
    return tuple({"fold": number, **fold} for number, fold in enumerate(folds))
