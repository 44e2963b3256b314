"""What an earlier sweep of the same code has computed need not be computed again.

Two sweeps have the same code when content, target and all that every point gets are equal (`Sweep.code`). A point of
the one stands for the point of the other that has the same parameters.
"""

from __future__ import annotations

import math
import sqlite3
from functools import partial
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.sweeps.records import MAIN, Progress, Sweep
from racksack_controller.store import Store
from racksack_controller.sweeps.results import ledger, tables
from racksack_controller.sweeps.results.segments import Numbers, Segment, as_ranges, build
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_controller.sweeps.search.protocol import Outcome
from racksack_jobspecs.sweep.spec import SweepSpec, Value

EARLIER_MAX = 20  # sweeps that are looked at


async def take_over(store: Store, sweep: Sweep, progress: Progress) -> None:
    """Copy what earlier sweeps have, a part at a time, so that nobody waits for millions of points."""
    pending, done = Ranges(progress.pending), 0
    for part in await store.read(partial(parts_of, sweep=sweep)):
        copied = await store.read(partial(copy_of, part=part, sweep=sweep, pending=pending))
        if copied is not None:
            segment, count = copied
            done += count
            taken = replace(progress, done=done, reused=done, pending=pending.pairs())
            await store.write(partial(_save, sweep=sweep.id, segment=segment, progress=taken))
        if not pending:
            return


def _save(connection: sqlite3.Connection, sweep: int, segment: Segment, progress: Progress) -> None:
    ledger.add_segments(connection, sweep, MAIN, 0, [segment])
    ledger.save_progress(connection, sweep, progress)


class Part(NamedTuple):
    """One segment of an earlier sweep."""

    sweep: Sweep
    number: int  # of the segment in the store


def parts_of(connection: sqlite3.Connection, sweep: Sweep) -> list[Part]:
    """What earlier sweeps have computed with the same code, the latest sweep first."""
    condition, values = "code = ? AND owner = ? AND id < ?", (sweep.code, sweep.owner, sweep.id)
    found = ledger.sweeps_where(connection, condition, values, EARLIER_MAX)
    sql = "SELECT id FROM sweep_segments WHERE sweep = ? AND run = ? ORDER BY id"
    return [
        Part(earlier, int(row[0]))
        for earlier, _ in found
        if _compares(earlier.sweep, sweep.sweep)
        for row in connection.execute(sql, (earlier.id, MAIN))
    ]


def copy_of(connection: sqlite3.Connection, part: Part, sweep: Sweep, pending: Ranges) -> tuple[Segment, int] | None:
    """The results of one part for points that are still pending, and how many; they are pending no more."""
    for segment in ledger.segments_by_number(connection, [part.number]):
        numbers = same_points(part.sweep.sweep, sweep.sweep, segment.numbers())
        if numbers is None:
            return None
        keep = (numbers >= 0) & _inside(numbers, pending)
        if not keep.any():
            return None
        kept = numbers[keep]
        metrics = {name: column[keep] for name, column in segment.metric_columns()}
        pending.discard_all(as_ranges(kept))
        return build(kept, segment.seconds()[keep], metrics), len(kept)
    return None


def _compares(earlier: SweepSpec, later: SweepSpec) -> bool:
    return same_points(earlier, later, np.empty(0, dtype=np.int64)) is not None


def _inside(numbers: Numbers, ranges: Ranges) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    pairs = list(ranges)
    if not pairs:
        return np.zeros(len(numbers), dtype=np.bool_)
    starts, ends = np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])
    index = np.searchsorted(starts, numbers, side="right") - 1
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = (index >= 0) & (numbers < ends[np.maximum(index, 0)])
    return found


def same_points(earlier: SweepSpec, later: SweepSpec, numbers: Numbers) -> Numbers | None:
    """For each point of one space the number that it has in the other, -1 for none; None where they do not compare."""
    if (earlier.range, earlier.scripts) != (later.range, later.scripts):
        return None
    if is_drawn(earlier) or is_drawn(later):
        return None
    if earlier.range is not None or earlier.scripts or earlier.axes == later.axes:
        return numbers
    if {axis.name for axis in earlier.axes} != {axis.name for axis in later.axes}:
        return None
    if any(axis.only_if for axis in (*earlier.axes, *later.axes)):
        return None
    strides, stride = {}, 1
    for axis in reversed(later.axes):
        strides[axis.name] = stride
        stride *= len(axis.values)
    later_values = {axis.name: {_exact(value): index for index, value in enumerate(axis.values)} for axis in later.axes}
    found, rest = np.zeros(len(numbers), dtype=np.int64), numbers.copy()
    is_known = np.ones(len(numbers), dtype=np.bool_)
    for axis in reversed(earlier.axes):
        place = np.array([later_values[axis.name].get(_exact(value), -1) for value in axis.values], dtype=np.int64)
        place = place[rest % len(axis.values)]
        rest //= len(axis.values)
        is_known &= place >= 0
        found += place * strides[axis.name]
    found[~is_known] = -1
    return found


def _exact(value: Value) -> tuple[type, Value]:
    """1, 1.0 and True are three parameters."""
    return type(value), value


def outcomes(connection: sqlite3.Connection, sweep: Sweep) -> list[Outcome]:
    """What came of the points that a search has drawn so far."""
    metric = sweep.sweep.metrics[0].name
    found = tables.table(connection, sweep.id, names=[metric])
    values = found.numbers(metric).tolist()
    told: list[Outcome] = [
        (point, value if math.isfinite(value) else None)
        for point, value in zip(found.points.tolist(), values, strict=True)
    ]
    failures = ledger.failures_of(connection, sweep.id, waiting=False)
    return told + [(failure.point, None) for failure in failures]
