"""Sets of points as ranges: a million points in a row cost as much as one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

Range = tuple[int, int]  # from, up to but without


class Ranges:
    """A set of whole numbers, kept as disjoint ranges in order."""

    __slots__ = ("_ends", "_starts", "size")

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.size = 0
        for low, high in ranges:
            self.add(low, high)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends, strict=True)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __contains__(self, point: int) -> bool:
        index = bisect_right(self._starts, point) - 1
        return index >= 0 and point < self._ends[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and (self._starts, self._ends) == (other._starts, other._ends)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"

    def add(self, low: int, high: int) -> None:
        """Add low, low + 1, ... up to but without high."""
        if low >= high:
            return
        first = bisect_left(self._ends, low)
        last = bisect_right(self._starts, high)
        if first < last:
            low, high = min(low, self._starts[first]), max(high, self._ends[last - 1])
        self.size += (high - low) - sum(
            end - start for start, end in zip(self._starts[first:last], self._ends[first:last], strict=True)
        )
        self._starts[first:last] = [low]
        self._ends[first:last] = [high]

    def remove(self, low: int, high: int) -> int:
        """Take low up to but without high out; how many of them were in."""
        if low >= high:
            return 0
        first = bisect_right(self._ends, low)
        last = bisect_left(self._starts, high)
        if first >= last:
            return 0
        before = (self._starts[first], low) if self._starts[first] < low else None
        after = (high, self._ends[last - 1]) if self._ends[last - 1] > high else None
        held = sum(end - start for start, end in zip(self._starts[first:last], self._ends[first:last], strict=True))
        kept = [part for part in (before, after) if part is not None]
        self._starts[first:last] = [part[0] for part in kept]
        self._ends[first:last] = [part[1] for part in kept]
        taken = held - sum(end - start for start, end in kept)
        self.size -= taken
        return taken

    def covers(self, low: int, high: int) -> bool:
        """Whether all of low up to but without high are in."""
        index = bisect_right(self._starts, low) - 1
        return low >= high or (index >= 0 and self._ends[index] >= high)

    def missing_of(self, ranges: Iterable[Sequence[int]]) -> Ranges:
        """Those points of some ranges that are not in."""
        missing = Ranges(ranges)
        missing.discard_all(self)
        return missing

    def update(self, other: Iterable[Sequence[int]]) -> None:
        """Add all of these ranges."""
        for low, high in other:
            self.add(low, high)

    def discard_all(self, other: Iterable[Sequence[int]]) -> int:
        """Take all of these ranges out; how many points of them were in."""
        return sum(self.remove(low, high) for low, high in other)

    def take(self, count: int) -> Ranges:
        """Take the first `count` points out, fewer if there are not so many."""
        taken = Ranges()
        while count > 0 and self._starts:
            low = self._starts[0]
            high = min(self._ends[0], low + count)
            self.remove(low, high)
            taken.add(low, high)
            count -= high - low
        return taken

    def pairs(self) -> tuple[Range, ...]:
        """As values, for records."""
        return tuple(self)


def ranges_of(points: Iterable[int]) -> Ranges:
    """Points in any order as a set."""
    found = Ranges()
    for point in points:
        found.add(point, point + 1)
    return found
