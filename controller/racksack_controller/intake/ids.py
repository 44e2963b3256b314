"""The ids of jobs and sweeps: one sequence, in which none is given out twice."""

from __future__ import annotations

from racksack_controller import accepted
from racksack_jobspecs.layout import Spool

ID_DIGITS = 12


class Ids:
    """Goes on behind `last`, the highest id that was ever given out."""

    def __init__(self, last: int) -> None:
        self._next = last + 1

    def take(self, count: int) -> int:
        """Reserve so many ids; the first of them."""
        first, self._next = self._next, self._next + count
        return first


def highest_id(spool: Spool) -> int:
    """The highest id that left anything in the spool: a restored or new store must not give it out again."""
    names = [path.name.partition(".")[0] for folder in (spool.returns, spool.projects) for path in folder.iterdir()]
    ids = [int(name) for name in names if name.isascii() and name.isdecimal() and len(name) <= ID_DIGITS]
    return max([*ids, *(note.last for note in accepted.notes(spool))], default=0)
