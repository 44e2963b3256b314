"""Which points of a sweep are stopped early, by the values that they report while they run.

A point is judged at *rungs*. asha is the stopping rule of asynchronous successive halving (Li et al., "A System for
Massively Parallel Hyperparameter Tuning", MLSys 2020): of the values that a rung has had so far, a point goes on when
its own is within the best 1 / reduction. hyperband (Li et al., JMLR 2018) runs several such ladders side by side, each
of which begins one rung later. median stops what is worse than the median of its rung (Golovin et al., "Google Vizier",
KDD 2017). No rule waits for other points, so no worker is ever idle for it.

A verdict is a function of the values in the order in which they came. Both are saved in one transaction; so a
controller that was killed goes on with the same rungs.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from racksack_jobspecs.sweep.spec import Stopping

MEDIAN_LEAST = 5  # values at a rung before a median says anything
BRACKETS_MAX = 4  # of hyperband


def rungs(stopping: Stopping) -> list[float]:
    """The steps at which points are judged, rising."""
    if stopping.kind == "median":
        return [stopping.grace * (index + 1) for index in range(stopping.rungs)]
    return [stopping.grace * float(stopping.reduction) ** index for index in range(stopping.rungs)]


def brackets(stopping: Stopping) -> int:
    """How many ladders there are; point p climbs ladder p % brackets, whose first rungs are left out."""
    return min(BRACKETS_MAX, stopping.rungs) if stopping.kind == "hyperband" else 1


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about a point at a rung, as it is saved."""

    point: int
    rung: int  # counted in all rungs, whatever the point's bracket
    value: float
    stop: bool


@dataclass
class Rungs:
    """What the rungs of one run of a sweep have had so far."""

    stopping: Stopping
    is_max: bool
    steps: list[float] = field(init=False)
    reached: dict[int, int] = field(default_factory=dict)  # the highest rung of each point
    stopped: set[int] = field(default_factory=set)
    _values: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # (bracket, rung): sorted, best last

    def __post_init__(self) -> None:
        self.steps = rungs(self.stopping)
        self._brackets = brackets(self.stopping)

    def restore(self, verdicts: Iterable[Verdict]) -> None:
        """Take in what was decided before."""
        for one in verdicts:
            self._note(one)

    def judge(self, point: int, step: float, value: float) -> Verdict | None:
        """What becomes of a point that reports `value` at `step`; None when it has reached no new rung.

        A value that is no number (nan) is the worst of all.
        """
        first = point % self._brackets
        rung = bisect.bisect_right(self.steps, step) - 1
        if rung < first or rung <= self.reached.get(point, -1):
            return None
        score = self._score(value)
        verdict = Verdict(point=point, rung=rung, value=value, stop=self._is_to_stop((first, rung), score))
        self._note(verdict)
        return verdict

    def judged(self, point: int) -> int:
        """How many rungs of its own ladder a point has behind it."""
        rung = self.reached.get(point, -1)
        return 0 if rung < 0 else rung - point % self._brackets + 1

    def _is_to_stop(self, key: tuple[int, int], score: float) -> bool:
        others = self._values.get(key, [])
        if self.stopping.kind == "median":
            return len(others) >= MEDIAN_LEAST and score < _quantile(others, 0.5)
        return bool(others) and score < _quantile(others, 1 - 1 / self.stopping.reduction)

    def _note(self, verdict: Verdict) -> None:
        key = (verdict.point % self._brackets, verdict.rung)
        bisect.insort(self._values.setdefault(key, []), self._score(verdict.value))
        if verdict.stop:
            self.stopped.add(verdict.point)
        self.reached[verdict.point] = max(verdict.rung, self.reached.get(verdict.point, -1))

    def _score(self, value: float) -> float:
        if math.isnan(value):
            return -math.inf
        return value if self.is_max else -value


def _quantile(values: list[float], share: float) -> float:
    """The quantile of sorted values, linear between neighbours."""
    at = share * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    if values[low] == values[high] or at == low:
        return values[low]
    return values[low] + (values[high] - values[low]) * (at - low)
