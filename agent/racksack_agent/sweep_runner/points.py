"""The parameters of points, on the node.

A plan's `space` says what the number of a point means:

    {"kind": "grid", "names": [...], "axes": [[...], ...]}      the last axis counts fastest; with "folds": [{...}, ...]
                                                                the parameter `fold` becomes the arguments of that fold
    {"kind": "range", "first": 0, "last": 4294967296, "step": 65536}   `start` and `end` of the point's part
    {"kind": "given"}                                           each chunk brings the parameters of its points
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

Space = Dict[str, Any]
Values = Dict[str, Any]
ValuesOf = Callable[[Sequence[int]], List[Values]]


def values_of(space: Space) -> ValuesOf:
    """The function from the numbers of points to their parameters. Raises ValueError for a space that is given."""
    if space["kind"] == "grid":
        found = grid(space["names"], space["axes"])
        return on_folds(found, space["folds"]) if space.get("folds") else found
    if space["kind"] == "range":
        return parts(space["first"], space["last"], space["step"])
    raise ValueError("the parameters of these points come with their chunk")


def grid(names: Sequence[str], axes: Sequence[Sequence[Any]]) -> ValuesOf:
    """Every combination; a column for each axis is made at once, which costs less than one point after another."""
    strides = [1] * len(axes)
    for index in range(len(axes) - 1, 0, -1):
        strides[index - 1] = strides[index] * len(axes[index])
    known = list(zip(axes, strides, map(len, axes)))

    def values(points: Sequence[int]) -> List[Values]:
        columns = [[axis[point // stride % length] for point in points] for axis, stride, length in known]
        return [dict(zip(names, row)) for row in zip(*columns)] if columns else [{} for _ in points]

    return values


def on_folds(values_of_points: ValuesOf, folds: Sequence[Values]) -> ValuesOf:
    """The same, with the arguments of each point's fold."""

    def values(points: Sequence[int]) -> List[Values]:
        return [{**found, **folds[found["fold"]]} for found in values_of_points(points)]

    return values


def parts(first: int, last: int, step: int) -> ValuesOf:
    """Parts of a range of numbers: point n is from `start` up to but without `end`."""

    def values(points: Sequence[int]) -> List[Values]:
        starts = [first + point * step for point in points]
        return [{"start": start, "end": min(start + step, last)} for start in starts]

    return values
