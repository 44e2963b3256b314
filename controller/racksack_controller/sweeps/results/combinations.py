"""Points that are the folds and repeats of one combination of parameters, as one value: so the ranking does not pick a
combination for one lucky fold.

Folds and repeats are the axes that count fastest: the points of combination c are c * size, ..., c * size + size - 1.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
How = Literal["mean", "median", "worst"]


class Combined(msgspec.Struct, frozen=True):
    """A value for each combination that is complete, in the order of their points."""

    points: Ints  # the first point of each
    values: Floats
    spreads: Floats  # the sample standard deviation over its points


def combine(points: Ints, values: Floats, size: int, how: How, *, is_max: bool) -> Combined:
    """Combinations all of whose `size` points have a number; the others are not comparable and are left out."""
    order = np.argsort(points, kind="stable")
    known = order[~np.isnan(values[order])]
    owners, first, counts = np.unique(points[known] // size, return_index=True, return_counts=True)
    whole = counts == size
    rows = first[whole][:, None] + np.arange(size)[None, :]
    table = values[known][rows] if len(rows) else np.empty((0, size))
    spreads = table.std(axis=1, ddof=1) if size > 1 and len(table) else np.zeros(len(table))
    return Combined(owners[whole] * size, _aggregated(table, how, is_max=is_max), spreads)


def _aggregated(table: Floats, how: How, *, is_max: bool) -> Floats:
    if not len(table):
        return np.empty(0)
    if how == "worst":
        found = table.min(axis=1) if is_max else table.max(axis=1)
    else:
        found = np.median(table, axis=1) if how == "median" else table.mean(axis=1)
    return np.asarray(found, dtype=np.float64)


def pareto(values: Floats) -> Ints:
    """The rows of `values` (more is better in each column) that no other row dominates, best in the first column first.

    Rows with nan are never on the front. Sorted by columns, so each row is compared with those kept before it alone.
    """
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    order = known[np.lexsort(values[known].T[::-1])[::-1]]
    kept: list[int] = []
    front = np.empty((0, values.shape[1]))
    for row in order.tolist():
        mine = values[row]
        covers = (front >= mine).all(axis=1)
        if covers.any() and not (front[covers] == mine).all(axis=1).any():
            continue
        kept.append(row)
        front = np.vstack((front, mine))
    return np.array(kept, dtype=np.int64)


def hypervolume(front: Floats, reference: Floats) -> float:
    """The area (two columns, more is better) between a front and a point that all of it dominates."""
    above = front[(front > reference).all(axis=1)]
    volume, top = 0.0, float(reference[1])
    for first, second in above[np.argsort(-above[:, 0])].tolist():
        if second > top:
            volume += (first - float(reference[0])) * (second - top)
            top = second
    return volume
