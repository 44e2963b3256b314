"""What a search is to the dispatcher: something that draws parameters, and may want to hear what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from racksack_controller.core.sweeps.records import Sweep
from racksack_jobspecs.sweep.spec import Params

Outcome = tuple[int, float | None]  # a point and its first metric; None: it failed, or has no such number


Known = tuple[Params, float]  # a point of an earlier sweep, and its metric


class Drawer(Protocol):
    """One search. Its methods are called in a thread, never two at once."""

    def draw(self, count: int) -> list[Params]:
        """The parameters of the next points, `count` at most; fewer where it wants to hear of results first."""

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came of points that were drawn."""

    def close(self) -> None:
        """It is not needed any more."""


MakeDrawer = Callable[[Sweep, Sequence[Params], Sequence[Outcome], Sequence[Known]], Drawer]
"""Makes the search of a sweep, with all that it has drawn so far (points 0, 1, ...) and what came of it, and with what
an earlier sweep has found."""
