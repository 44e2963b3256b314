"""The results of a run in the order of their points, a window at a time: memory for a window, however many there are.

Segments hold points in order, but those of different chunks may interleave. One pass learns where each begins and ends;
then segments that overlap are read together, in windows of points where they are too many for one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from racksack_controller.sweeps.results import ledger
from racksack_controller.sweeps.results.segments import Segment
from racksack_controller.sweeps.results.tables import Table, table_of

WINDOW = 200_000  # about so many points are read at once


class Extent(NamedTuple):
    """Where a segment lies: from `low` up to but without `high`."""

    low: int
    high: int
    points: int
    number: int  # its id in the store


class Window(NamedTuple):
    """What is read at once: the points of these segments from `low` up to but without `high`."""

    low: int
    high: int
    segments: tuple[int, ...]


class InOrder:
    """All results of a run; `metrics` are the names of all its metrics."""

    def __init__(self, connection: sqlite3.Connection, sweep: int, run: int) -> None:
        self.metrics: list[str] = []
        extents = []
        for number, segment in ledger.numbered_segments(connection, sweep, run):
            extents.append(_extent(number, segment))
            self.metrics += [name for name, _, _ in segment.columns if name not in self.metrics]
        self._windows = list(windows_of(sorted(extents)))

    def next_table(self, connection: sqlite3.Connection) -> Table | None:
        """The next points with their results, in order; None at the end. The store must look as it did at first."""
        while self._windows:
            window = self._windows.pop(0)
            found = table_of(ledger.segments_by_number(connection, window.segments))
            rows = np.flatnonzero((found.points >= window.low) & (found.points < window.high))
            if len(rows):
                rows = rows[np.argsort(found.points[rows], kind="stable")]
                metrics = {name: column[rows] for name, column in found.metrics.items()}
                return Table(found.points[rows], found.seconds[rows], metrics)
        return None


def _extent(number: int, segment: Segment) -> Extent:
    points = segment.numbers()
    return Extent(int(points.min()), int(points.max()) + 1, segment.points, number)


def windows_of(extents: list[Extent]) -> Iterator[Window]:
    """Windows in order that hold each point of the segments (sorted by where they begin) once."""
    group: list[Extent] = []
    high = 0
    for one in extents:
        if group and (one.low >= high and sum(other.points for other in group) + one.points > WINDOW):
            yield from _cut(group, high)
            group = []
        group.append(one)
        high = max(high, one.high) if len(group) > 1 else one.high
    if group:
        yield from _cut(group, high)


def _cut(group: list[Extent], high: int) -> Iterator[Window]:
    """Windows over segments that overlap, or are few: of equal width, as many as their points ask for."""
    low = group[0].low
    width = -(-(high - low) // max(1, sum(one.points for one in group) // WINDOW))
    for begin in range(low, high, width):
        end = min(begin + width, high)
        inside = tuple(one.number for one in group if one.low < end and one.high > begin)
        if inside:
            yield Window(begin, end, inside)
