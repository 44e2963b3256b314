"""The ids of jobs and sweeps: one sequence, in which none is given out twice."""

from __future__ import annotations


class Ids:
    """Goes on behind `last`, the highest id that was ever given out."""

    def __init__(self, last: int) -> None:
        self._next = last + 1

    def take(self, count: int) -> int:
        """Reserve so many ids; the first of them."""
        first, self._next = self._next, self._next + count
        return first
