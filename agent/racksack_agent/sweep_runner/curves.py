"""The reports of one point on their way to the runner: thinned, at a bounded rate, and judged at rungs.

A *rung* is a step at which the sweep decides whether a point goes on. The worker knows the rungs, sends what it has
when the point has reached one, and waits for the verdict; so a point that is stopped computes nothing past its rung.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

KEPT = 100  # reports of a point; once it has so many, every second one is kept, then every fourth, ...


class Curve:
    """What one point has reported. `rungs`: the steps at which it is judged, rising."""

    def __init__(self, rungs: Sequence[float]) -> None:
        self._rungs = rungs
        self._seen = self._kept = 0
        self._stride = 1
        self.rung = -1  # the highest one reached
        self.last: Dict[str, Any] = {}  # the values of the latest report

    def takes(self, step: float) -> bool:
        """Whether the report at this step is kept, and whether it has reached a rung: see `rung`."""
        reached = self._reached(step)
        is_due = self._seen % self._stride == 0
        self._seen += 1
        if reached > self.rung:
            self.rung = reached
        elif not is_due:
            return False
        self._kept += 1
        if self._kept % KEPT == 0:
            self._stride *= 2
        return True

    def _reached(self, step: float) -> int:
        found = self.rung
        while found + 1 < len(self._rungs) and step >= self._rungs[found + 1]:
            found += 1
        return found


def rungs_of(plan: Optional[Mapping[str, Any]], point: int) -> List[float]:
    """The rungs of a point: each bracket of hyperband begins one rung later; none where nothing stops points."""
    if not plan:
        return []
    steps: List[float] = plan["rungs"]
    return steps[point % int(plan["brackets"]) :]
