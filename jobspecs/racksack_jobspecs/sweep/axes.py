"""The values of one parameter as people write them: `20:80:2`, `a,b,c`, `log:1e-5:1e-1:9`, `true,false`, `0.5`.

Steps are exact decimals: `0.1:0.5:0.1` is 0.1, 0.2, 0.3, 0.4, 0.5 and includes its end. Without a step or a number of
values it is an interval, which a search draws from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from racksack_jobspecs.readers import shown
from racksack_jobspecs.sweep.spec import Axis, Domain, Value

AXIS_VALUES_MAX = 100_000
SPACE_VALUES_MAX = 200_000  # of all parameters of a sweep together
TEXT_CHARS_MAX = 10_000
PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_DECIMAL = re.compile(_NUMBER)
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_STEPS = re.compile(f"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?")
_SPACED = re.compile(f"(log|lin):({_NUMBER}):({_NUMBER})(?::([0-9]{{1,9}}))?")
_CONDITION = re.compile(r"(.*\S)\s+if\s+(\S.*)", re.DOTALL)
_WORDS: dict[str, Value] = {"true": True, "false": False, "null": None, "none": None}


def split_condition(text: str) -> tuple[str, str]:
    """`1:10:1 if algo == 'knn'` as the values and the condition."""
    match = _CONDITION.fullmatch(text)
    return (match[1], match[2].strip()) if match else (text, "")


def parameter(name: str, text: str, most: int = AXIS_VALUES_MAX) -> Axis | Domain:
    """One parameter of a space, with `most` values at most. Raises ValueError with a sentence."""
    values, only_if = split_condition(text.strip())
    steps, spaced = _STEPS.fullmatch(values), _SPACED.fullmatch(values)
    if steps:
        return _progression(name, (steps[1], steps[2], steps[3]), only_if, most)
    if spaced:
        return _spaced(name, spaced, only_if, most)
    if re.match(r"(log|lin):|[-+.0-9]+:", values):
        raise ValueError(
            f"{shown(values)} is not a range; write start:stop:step, log:low:high:number or lin:low:high:number"
        )
    items = _items(values)
    _check_count(len(items), most)
    return listed(name, [scalar(item) for item in items], only_if, most)


def listed(name: str, values: Iterable[Value], only_if: str = "", most: int = AXIS_VALUES_MAX) -> Axis:
    """A parameter with these values. Raises ValueError with a sentence."""
    kept: dict[tuple[str, Value], Value] = {(type(value).__name__, value): value for value in values}
    if not kept:
        raise ValueError("this has no value; write one or several, such as 20:80:2 or a,b,c")
    _check_count(len(kept), most)
    return Axis(name, tuple(kept.values()), only_if)


def scalar(text: str) -> Value:
    """A single value: a number, true, false, none, or a text; quotes make a text of what looks like another."""
    word = text.strip()
    if len(word) > TEXT_CHARS_MAX:
        raise ValueError(f"a value has {len(word)} characters; write at most {TEXT_CHARS_MAX}")
    if len(word) >= 2 and word[0] == word[-1] and word[0] in "'\"":
        return word[1:-1]
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if _WHOLE.fullmatch(word):
        return int(word)
    return float(word) if _DECIMAL.fullmatch(word) else word


def _items(text: str) -> list[str]:
    """Split at commas that are not in quotes."""
    found = re.findall(r"""\s*('[^']*'|"[^"]*"|[^,]*)\s*(?:,|$)""", text)
    return [item for item in found if item.strip()]


def _progression(name: str, ends: tuple[str, str, str | None], only_if: str, most: int) -> Axis | Domain:
    start, stop, step = ends
    first, last = _decimal(start), _decimal(stop)
    is_whole = all(_WHOLE.fullmatch(part) for part in (start, stop, step or "1"))
    if step is None and (not is_whole or last - first >= AXIS_VALUES_MAX):
        return _interval(name, first, last, is_log=False, is_whole=is_whole, only_if=only_if)
    width = _decimal(step) if step is not None else Decimal(1)
    if not width:
        raise ValueError("the step is 0; write one above zero")
    parts = (last - first) / width
    if parts < 0:
        if step is None:
            raise ValueError(f"{start}:{stop} goes down; write {stop}:{start}, or {start}:{stop}:-1 for that order")
        raise ValueError(f"{start}:{stop}:{step} never gets from {start} to {stop}; turn the step's sign")
    if parts > AXIS_VALUES_MAX:
        _check_count(int(min(parts, Decimal(10**18))) + 1, most)
    count = int((last - first) // width) + 1
    _check_count(count, most)
    values = [first + width * index for index in range(count)]
    return Axis(name, tuple(int(value) if is_whole else float(value) for value in values), only_if)


def _spaced(name: str, match: re.Match[str], only_if: str, most: int) -> Axis | Domain:
    is_log, low, high, count = match[1] == "log", match[2], match[3], match[4]
    first, last = _decimal(low), _decimal(high)
    if is_log and (first <= 0 or last <= 0):
        raise ValueError(f"log:{low}:{high} has no logarithm; write ends above zero")
    if count is None:
        return _interval(name, first, last, is_log=is_log, is_whole=False, only_if=only_if)
    number = int(count)
    _check_count(number, most)
    if number < 2:
        raise ValueError("the number of values is below 2; write at least 2, or the value alone")
    inner = _at_equal_ratios(first, last, number) if is_log else _at_equal_distances(first, last, number)
    rounded = [float(f"{value:.12g}") for value in inner]
    return Axis(name, (float(first), *rounded, float(last)), only_if)


def _at_equal_ratios(first: Decimal, last: Decimal, number: int) -> list[float]:
    """The values between, in floats, which is quick; at worst the last of the twelve kept digits is rounded."""
    low, high = math.log(first), math.log(last)
    return [math.exp(low + (high - low) * index / (number - 1)) for index in range(1, number - 1)]


def _at_equal_distances(first: Decimal, last: Decimal, number: int) -> list[Decimal]:
    return [first + (last - first) * index / (number - 1) for index in range(1, number - 1)]


def _interval(name: str, first: Decimal, last: Decimal, *, is_log: bool, is_whole: bool, only_if: str) -> Domain:
    if first >= last:
        raise ValueError(f"the interval from {first} to {last} is empty; write the lower end first")
    return Domain(name=name, low=float(first), high=float(last), is_log=is_log, is_whole=is_whole, only_if=only_if)


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{shown(text)} is not a number") from None
    if abs(value) > Decimal("1e300") or (value and abs(value) < Decimal("1e-300")):
        raise ValueError(f"{shown(text)} is too large or too small a number")
    return value


def _check_count(count: int, most: int) -> None:
    if count <= most:
        return
    written = f"{count} values" if count < 10**15 else "far too many values"
    if most < AXIS_VALUES_MAX:
        raise ValueError(
            f"this makes {written}, and all parameters together have at most {SPACE_VALUES_MAX}, of which {most} are "
            "left; write larger steps, or an interval and a search"
        )
    raise ValueError(f"this makes {written}, more than {most}; write a larger step, or a range in its place")
