"""Reads results: columns over all points of a run, and the best of them.

A million points are some dozen segments; a column of them is eight megabytes for as long as somebody looks at it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results import ledger
from racksack_controller.sweeps.results.segments import Column, Numbers, Segment, joined
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_jobspecs.sweep.spec import Params, params_of

LARGE = 100_000
SAMPLE = 10_000


class Table:
    """Points with an outcome that is a result, and columns of their metrics; all of the same length."""

    def __init__(self, points: Numbers, seconds: npt.NDArray[np.float32], metrics: dict[str, Column]) -> None:
        self.points = points
        self.seconds = seconds
        self.metrics = metrics

    def __len__(self) -> int:
        return len(self.points)

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A metric as numbers: NaN where a point does not have it, or has text."""
        column = self.metrics.get(name)
        if column is None:
            return np.full(len(self), np.nan)
        if column.dtype.kind != "O":
            return column.astype(np.float64)
        return np.array([float(one) if isinstance(one, (int, float)) else np.nan for one in column], dtype=np.float64)

    def row(self, index: int) -> dict[str, object]:
        """All metrics of the point at `index`."""
        found = {name: column[index] for name, column in self.metrics.items()}
        plain = {name: one.item() if isinstance(one, np.generic) else one for name, one in found.items()}
        return {name: one for name, one in plain.items() if one is not None and one == one}


def table(connection: sqlite3.Connection, sweep: int, run: int = 0, names: Iterable[str] | None = None) -> Table:
    """All results of a run, in no order; with `names` only these metrics."""
    return table_of(list(ledger.segments_of(connection, sweep, run)), names)


def table_of(segments: Sequence[Segment], names: Iterable[str] | None = None) -> Table:
    """The results of some segments; with `names` only these metrics."""
    if not segments:
        return Table(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32), {})
    return Table(
        np.concatenate([one.numbers() for one in segments]),
        np.concatenate([one.seconds() for one in segments]),
        joined(segments, names),
    )


def best(values: npt.NDArray[np.float64], points: Numbers, count: int, *, is_max: bool) -> npt.NDArray[np.intp]:
    """The indices of the `count` best values, best first, equal ones by point; those without a value are left out."""
    candidates = _candidates(values, count, is_max=is_max)
    keys = values if candidates is None else values[candidates]
    keys = -keys if is_max else keys
    if candidates is not None:
        found = _least(keys, points[candidates], count)
        return candidates[found]
    return _least(keys, points, count)


def _candidates(values: npt.NDArray[np.float64], count: int, *, is_max: bool) -> npt.NDArray[np.intp] | None:
    """Of very many values the few that can be among the best, by a bound that a sample suggests; None: look at all."""
    if len(values) < LARGE or count * 20 > len(values):
        return None
    sample = values[:: len(values) // SAMPLE]
    sample = np.sort(sample[~np.isnan(sample)])
    wanted = int(len(sample) * min(1.0, (4.0 * count + 0.01 * len(values)) / len(values)))
    if not 0 < wanted < len(sample):
        return None
    bound = sample[-wanted] if is_max else sample[wanted - 1]
    found = np.flatnonzero(values >= bound if is_max else values <= bound)
    return found if len(found) >= count else None


def _least(keys: npt.NDArray[np.float64], points: Numbers, count: int) -> npt.NDArray[np.intp]:
    valid = np.flatnonzero(~np.isnan(keys))
    if len(valid) > count:
        bound = np.partition(keys[valid], count - 1)[count - 1] if count else -np.inf
        valid = valid[keys[valid] <= bound]
    order = np.lexsort((points[valid], keys[valid]))
    return valid[order[:count]]


def best_points(
    connection: sqlite3.Connection, sweep: int, metric: str, count: int | None, *, is_max: bool
) -> list[int]:
    """The best points of the main run by one metric, best first; all of them with no count."""
    found = table(connection, sweep, names=[metric])
    indices = best(found.numbers(metric), found.points, len(found) if count is None else count, is_max=is_max)
    return [int(point) for point in found.points[indices]]


def rows_of(
    connection: sqlite3.Connection, sweep: int, points: Sequence[int], run: int = 0
) -> dict[int, dict[str, object]]:
    """All metrics of a few points, by point."""
    return rows_among(ledger.segments_of(connection, sweep, run), points)


def rows_among(segments: Iterable[Segment], points: Sequence[int]) -> dict[int, dict[str, object]]:
    """All metrics of a few points of some segments, by point."""
    wanted = np.array(sorted(points), dtype=np.int64)
    found: dict[int, dict[str, object]] = {}
    if not len(wanted):
        return found
    for segment in segments:
        numbers = segment.numbers()
        places = np.minimum(np.searchsorted(wanted, numbers), len(wanted) - 1)
        indices = np.flatnonzero(wanted[places] == numbers)
        if len(indices):
            part = Table(
                numbers[indices], segment.seconds()[indices], {n: c[indices] for n, c in segment.metric_columns()}
            )
            found.update((int(point), part.row(index)) for index, point in enumerate(part.points))
    return found


def params_of_points(connection: sqlite3.Connection, sweep: Sweep, points: Sequence[int]) -> dict[int, Params]:
    """The parameters of points: from their numbers, or as they were drawn."""
    spec = sweep.sweep
    if not is_drawn(spec):
        return {point: params_of(spec, point) for point in points}
    return params_of_drawn(connection, sweep.id, points)


def params_of_drawn(connection: sqlite3.Connection, sweep: int, points: Sequence[int]) -> dict[int, Params]:
    """The parameters of a few points that a search drew."""
    found: dict[int, Params] = {}
    for point in points:
        found.update(ledger.params_between(connection, sweep, point, point + 1))
    return found
