"""What a search may know from an earlier sweep: its points with their first metric, as far as they lie in the space.

The earlier sweep is chosen once, when the later one is accepted, and noted in its record. So the search is the same
after every restart. The code need not be the same: what was good before is likely to be good again, no more.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence

import numpy as np

from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.sweeps.results import ledger, tables
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_controller.sweeps.search.protocol import Known
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import Axis, Domain, Params, SweepSpec, Value, params_of

KNOWN_MAX = 1000  # points; of more the best one, the worst one and those at equal ranks between
LOOKED_AT_MAX = 50  # earlier sweeps


class WarmStartError(ValueError):
    """The sweep that was named cannot be used; the sentence says why."""


def source_of(connection: sqlite3.Connection, spec: JobSpec, owner: str) -> int | None:
    """The earlier sweep to learn from; None where none is asked for, or `auto` finds none. Raises WarmStartError."""
    sweep = spec.sweep
    if sweep is None or not sweep.search.warm_start:
        return None
    word = sweep.search.warm_start
    if word == "auto":
        found = ledger.sweeps_where(connection, "owner = ?", (owner,), LOOKED_AT_MAX)
        same = [(one, progress) for one, progress in found if one.sweep.target == sweep.target]
        return next((one.id for one, progress in same if not why_not(sweep, one, progress)), None)
    named = ledger.sweep_by_id(connection, int(word))
    if named is None or named[0].owner != owner:
        raise WarmStartError(f"there is no sweep {word} of {owner}; `racksack sweep status` lists them")
    reason = why_not(sweep, *named)
    if reason:
        raise WarmStartError(f"sweep {word} {reason}")
    return named[0].id


def why_not(later: SweepSpec, earlier: Sweep, progress: Progress) -> str:
    """Why a sweep teaches another nothing, as the end of a sentence; empty where it does."""
    metric = later.metrics[0]
    if metric not in earlier.sweep.metrics:
        return f"has no metric {metric.name}:{metric.direction}"
    if not progress.done:
        return "has no results yet"
    if earlier.sweep.per_combination > 1 or later.per_combination > 1:
        return "has folds or repeats, whose points are not whole combinations"
    wanted: list[Axis | Domain] = [*later.axes, *later.domains]
    names = {one.name for one in wanted if not one.only_if}
    known = {axis.name for axis in earlier.sweep.axes} | {domain.name for domain in earlier.sweep.domains}
    return f"has no parameter {', '.join(sorted(names - known))}" if names - known else ""


def known_points(connection: sqlite3.Connection, later: SweepSpec, source: int) -> list[Known]:
    """Points of the earlier sweep that the later one could have, with their metric; KNOWN_MAX at most."""
    found = ledger.sweep_by_id(connection, source)
    if found is None:
        return []  # it was removed since; a restart then knows less
    earlier = found[0]
    metric = later.metrics[0].name
    table = tables.table(connection, source, names=[metric])
    values = table.numbers(metric)
    order = np.flatnonzero(np.isfinite(values))
    order = order[np.lexsort((table.points[order], values[order]))]
    if len(order) > KNOWN_MAX:
        order = order[np.linspace(0, len(order) - 1, KNOWN_MAX).round().astype(np.int64)]
    params = _params(connection, earlier, [int(table.points[at]) for at in order])
    pairs = zip(params, (float(values[at]) for at in order), strict=True)
    return [(kept, value) for one, value in pairs if (kept := in_space(later, one)) is not None]


def _params(connection: sqlite3.Connection, sweep: Sweep, points: Sequence[int]) -> list[Params]:
    if not is_drawn(sweep.sweep):
        return [params_of(sweep.sweep, point) for point in points]
    if not points:
        return []
    drawn = ledger.params_between(connection, sweep.id, min(points), max(points) + 1)
    return [drawn.get(point, {}) for point in points]


def in_space(spec: SweepSpec, params: Params) -> Params | None:
    """The parameters that the space has, in its order; None where one is missing or has no such value."""
    kept: Params = {}
    dimensions: list[Axis | Domain] = [*spec.axes, *spec.domains]
    for one in dimensions:
        if one.name not in params:
            if one.only_if:
                continue
            return None
        value = params[one.name]
        if isinstance(one, Axis):
            same = next((known for known in one.values if known == value and type(known) is type(value)), None)
            if same is None and value is not None:
                return None
        elif not _is_within(value, one):
            return None
        kept[one.name] = value
    return kept


def _is_within(value: Value, domain: Domain) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return False
    return domain.low <= value <= domain.high and (not domain.is_whole or value == int(value))
