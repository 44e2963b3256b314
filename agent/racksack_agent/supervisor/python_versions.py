"""Whether a Python version is one of those that a project says it works with (`>=3.10,<3.13`)."""

from __future__ import annotations

import re
from typing import List

_CLAUSE = re.compile(r"(~=|===?|!=|<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)*)(\.\*)?")


def fits(version: str, wanted: str) -> bool:
    """`version` as 3.11.2. A clause that is not understood is left to those who read it better."""
    return all(_holds(_numbers(version), clause.strip()) for clause in wanted.split(",") if clause.strip())


def _holds(version: List[int], clause: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        return True
    sign, bound = match[1], _numbers(match[2])
    start = version[: len(bound)]
    if match[3]:
        return (start != bound) if sign == "!=" else (start == bound)
    if sign == "~=":
        return _compare(version, bound) >= 0 and version[: len(bound) - 1] == bound[:-1]
    order = _compare(version, bound)
    return {"==": order == 0, "===": order == 0, "!=": order != 0}.get(sign, _ordered(sign, order))


def _ordered(sign: str, order: int) -> bool:
    return {"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}.get(sign, True)


def _compare(one: List[int], other: List[int]) -> int:
    length = max(len(one), len(other))
    padded = [part + [0] * (length - len(part)) for part in (one, other)]
    return (padded[0] > padded[1]) - (padded[0] < padded[1])


def _numbers(version: str) -> List[int]:
    return [int(part) for part in re.findall(r"[0-9]+", version)[:4]]
