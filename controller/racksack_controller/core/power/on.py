"""Which nodes to switch on for the whole queue at once.

1. **Whom would it help?** The queue is forecast as it is (with what runs, boots and is about to end) and with every
   node that could be switched on. A job counts only if it would start sooner.
2. **On which nodes?** The cheapest set (`set`) that holds the jobs that would start first on them.
3. **Is it worth it?** From that set node after node is left out, the one first that is missed least. Of all these
   sets, down to the empty one, the one is taken for which waiting and nodes' time cost least together: `wait_worth`
   seconds of a node for each second that a job waits, the time for which nodes are on for what runs and waits, and,
   for each boot, what a boot for nothing costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from racksack_controller.core.placing.reserve_large import may_wake
from racksack_controller.core.power.cheapest_set import Bin, cheapest
from racksack_controller.core.power.forecast import ByNode, Expected, Forecast
from racksack_controller.core.power.view import Candidate, View, Wanted
from racksack_controller.core.rack.allocations import OVERDUE_S

SOONER_S = 1.0  # so much earlier counts as sooner
WAIT_S_MAX = 7 * 86400.0  # what never starts is taken to wait so long
ON_S_MAX = 3600.0  # expectations of longer work are too uncertain to count for more
BUSY_S_MAX = 3600.0  # for how long a node's power while it works is part of its cost in a set
CHAIN_MAX = 16  # sets of more nodes are thinned out by several at a time
WORSE_MAX = 2  # sets in a row each worth less than the one before: smaller ones are worth less still


class Wake(NamedTuple):
    """The nodes to switch on, and the jobs that it is for. `again_s`: when time alone may change the answer."""

    chosen: tuple[Candidate, ...]
    jobs: tuple[int, ...]
    again_s: float | None


NOBODY = Wake((), (), None)


class Look:
    """One look at the queue and the candidates."""

    def __init__(self, view: View, candidates: Sequence[Candidate], jobs: Sequence[Wanted]) -> None:
        self.view = view
        self.candidates = candidates
        self.jobs = jobs
        self.asleep = [not may_wake(view.state, job.job_id, view.now, view.policy) for job in jobs]
        self._forecast = self.forecast()
        self._opens = view.opens_s()
        self._usual_watts = sum(one.watts for one in candidates) / len(candidates)
        self._runs_until = np.full(len(self._opens), view.now)
        row, _need, ends = view.releases()
        np.maximum.at(self._runs_until, row, np.minimum(ends, view.now + ON_S_MAX))

    def forecast(self) -> Forecast:
        """What says when jobs start."""
        return ByNode(self.view)

    def starts(self, chosen: Sequence[Candidate]) -> list[Expected]:
        """When the jobs start if these are switched on now."""
        opens = self._opens.copy()
        for one in chosen:
            opens[one.row] = self.view.now + one.boot_s
        return self._forecast.starts(self.jobs, opens, self.asleep, [one.row for one in chosen])

    def value(self, chosen: Sequence[Candidate]) -> float:
        """What it costs in all to switch these on, in seconds of a node of the usual power: the less the better."""
        starts = self.starts(chosen)
        return (
            self.view.policy.wait_worth * self._wait_s(starts)
            + self.on_s(starts)
            + sum(self._for_nothing_s(one) for one in chosen)
        )

    def _wait_s(self, starts: Sequence[Expected]) -> float:
        """How long the jobs that may wake nodes wait, all together."""
        pairs = zip(starts, self.asleep, strict=True)
        return sum(min(one.at_s - self.view.now, WAIT_S_MAX) for one, asleep in pairs if not asleep)

    def on_s(self, starts: Sequence[Expected]) -> float:
        """For how long nodes are on for what runs and waits. Seconds."""
        until = self._runs_until.copy()
        for job, start in zip(self.jobs, starts, strict=True):
            for row in start.rows:
                until[row] = max(until[row], start.at_s + min(job.length_s, ON_S_MAX))
        return float((until - self.view.now).sum())

    def smallest_set(self, best: Sequence[Expected], sooner: Sequence[int]) -> list[Candidate]:
        """The cheapest candidates that hold what would start first on them.

        `best`: the starts if all candidates were on; `sooner`: the jobs that would start sooner then.
        """
        opens = {one.row: self.view.now + one.boot_s for one in self.candidates}
        first = [
            (index, row)
            for index in sooner
            for row in best[index].rows
            if best[index].at_s <= opens.get(row, 0.0) + SOONER_S
        ]
        used = {row for index in sooner for row in best[index].rows}
        as_forecast = [one for one in self.candidates if one.row in used]
        if not first or any(self.jobs[index].job_class.gang > 1 for index, _ in first):
            return as_forecast  # ranks of a gang lie on different nodes, which a packing does not know
        lengths = [min(self.jobs[index].length_s, BUSY_S_MAX) for index, _ in first]
        busy_s = sum(lengths) / len(lengths)
        items = np.array([self.jobs[index].job_class.need for index, _ in first], dtype=np.int64)
        bins = [_bin(self, one, [index for index, _ in first], busy_s) for one in self.candidates]
        chosen = cheapest(items, bins)
        return as_forecast if chosen is None else [self.candidates[index] for index in chosen]

    def _for_nothing_s(self, one: Candidate) -> float:
        """What switching a node on for nothing costs: boot, shutdown, and as much again before that."""
        return 2.0 * (one.boot_s + one.off_s) * (one.watts / self._usual_watts) * (1 + one.power.failures)


def whom_to_wake(view: View, look_at: type[Look] = Look) -> Wake:
    """The nodes that are to be switched on for what is waiting."""
    candidates = view.candidates()
    jobs = list(view.jobs()) if candidates else []
    if not any(may_wake(view.state, job.job_id, view.now, view.policy) for job in jobs):
        return NOBODY
    look = look_at(view, candidates, jobs)
    as_is, best = look.starts([]), look.starts(candidates)
    sooner = [
        index
        for index, asleep in enumerate(look.asleep)
        if not asleep and best[index].at_s < as_is[index].at_s - SOONER_S
    ]
    chosen = _best_part(look, look.smallest_set(best, sooner)) if sooner else _unseen(look, best)
    rows = {one.row for one in chosen}
    helped = [jobs[index].job_id for index in sooner if rows & set(best[index].rows)]
    job_ids = helped or [jobs[index].job_id for index in sooner] or [job.job_id for job in jobs[:1]]
    return Wake(tuple(chosen), tuple(job_ids), _again_s(as_is, view.now))


def _again_s(starts: Sequence[Expected], now: float) -> float | None:
    """The first moment to come at which a job is expected to start: if it does not, the forecast was wrong."""
    times = [one.at_s for one in starts if np.isfinite(one.at_s) and one.at_s > now + OVERDUE_S]
    return min(times) + 1.0 if times else None


def _unseen(look: Look, best: Sequence[Expected]) -> list[Candidate]:
    """A node that nobody has seen yet, when a job fits nowhere else: what it has will be known when it is on."""
    nodes = look.view.rack.nodes
    for index, job in enumerate(look.jobs):
        if look.asleep[index] or np.isfinite(best[index].at_s):
            continue
        admitted = look.view.rack.admitted(job.job_class.admission)
        for one in look.candidates:
            if nodes[one.row].inventory is None and admitted[one.row]:
                return [one]
    return []


def _bin(look: Look, one: Candidate, jobs: Sequence[int], busy_s: float) -> Bin:
    free = (look.view.rack.total - look.view.rack.held)[:, one.row].tolist()
    cost = one.watts * (one.boot_s + one.off_s + busy_s) * (1 + one.power.failures)
    return Bin(tuple(free), round(cost, 3), tuple(bool(look.jobs[index].able[one.row]) for index in jobs))


def _best_part(look: Look, chosen: Sequence[Candidate]) -> list[Candidate]:
    """The best of the sets that come of leaving out node after node."""
    rest = list(chosen)
    best, kept = look.value([]), list[Candidate]()
    before, worse = float("inf"), 0
    while rest and worse < WORSE_MAX:
        value = look.value(rest)
        worse = worse + 1 if value > before else 0
        before = value
        if value < best:
            best, kept = value, list(rest)
        for _ in range(max(1, len(rest) // CHAIN_MAX)):
            rest.remove(_least_missed(look, rest))
    return kept


def _least_missed(look: Look, chosen: Sequence[Candidate]) -> Candidate:
    """The node without which the others are worth most; of those that are alike the last."""
    kinds: dict[tuple[object, ...], int] = {}
    for index, one in enumerate(chosen):
        node = look.view.rack.nodes[one.row]
        kinds[node.inventory, node.reserve, node.max_jobs, node.labels, one.boot_s, one.watts, one.power.failures] = (
            index
        )
    if len(kinds) == 1:
        return chosen[-1]
    return chosen[min(kinds.values(), key=lambda index: look.value([*chosen[:index], *chosen[index + 1 :]]))]


def turn_s(view: View) -> float:
    """When the next boot may begin, so that they do not all draw their most at once (Unix seconds)."""
    begun = [power.boot_began_s for power in view.state.power.values() if power.boot_began_s is not None]
    return max(begun, default=0.0) + view.policy.boot_stagger_s


def stagger(view: View, wake: Wake) -> tuple[list[Candidate], float | None]:
    """Those of the chosen whose turn it is, and when the next one's is (Unix seconds)."""
    gap_s = view.policy.boot_stagger_s
    if not wake.chosen or gap_s <= 0:
        return list(wake.chosen), None
    return list(wake.chosen[:1]), view.now + gap_s if len(wake.chosen) > 1 else None
