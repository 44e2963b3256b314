"""What an earlier sweep of the same code has computed need not be computed again.

Two sweeps have the same code when content, target and all that every point gets are equal (`Sweep.code`). A point of
the one stands for the point of the other that has the same parameters.
"""

from __future__ import annotations

import math
import sqlite3

import numpy as np
from msgspec.structs import replace

from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.sweeps.records import MAIN, Progress, Sweep
from racksack_controller.sweeps.results import ledger, tables
from racksack_controller.sweeps.results.segments import Numbers, as_ranges, build
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_controller.sweeps.search.protocol import Outcome
from racksack_jobspecs.sweep.spec import SweepSpec, Value

EARLIER_MAX = 20  # sweeps that are looked at


def take_over(connection: sqlite3.Connection, sweep: Sweep, progress: Progress) -> Progress:
    """Copy the results of points that earlier sweeps have; the progress less these points."""
    pending = Ranges(progress.pending)
    done = 0
    condition, values = "code = ? AND owner = ? AND id < ?", (sweep.code, sweep.owner, sweep.id)
    for earlier, _ in ledger.sweeps_where(connection, condition, values, EARLIER_MAX):
        if not pending:
            break
        done += _copy(connection, earlier, sweep, pending)
    return replace(progress, done=done, reused=done, pending=pending.pairs())


def _copy(connection: sqlite3.Connection, earlier: Sweep, sweep: Sweep, pending: Ranges) -> int:
    """Copy what is still pending; how many points that was."""
    copied = 0
    for segment in ledger.segments_of(connection, earlier.id, MAIN):
        numbers = same_points(earlier.sweep, sweep.sweep, segment.numbers())
        if numbers is None:
            return copied
        keep = (numbers >= 0) & _inside(numbers, pending)
        if not keep.any():
            continue
        kept = numbers[keep]
        metrics = {name: column[keep] for name, column in segment.metric_columns()}
        ledger.add_segments(connection, sweep.id, MAIN, 0, [build(kept, segment.seconds()[keep], metrics)])
        pending.discard_all(as_ranges(kept))
        copied += len(kept)
    return copied


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
