"""What a search has to know to go on after a restart, from the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from racksack_controller.sweeps.active import Active
from racksack_controller.sweeps.results import ledger, reuse
from racksack_controller.sweeps.search import warm_start
from racksack_controller.sweeps.search.protocol import Known, Outcome
from racksack_jobspecs.sweep.spec import Params


def what_was_drawn(
    connection: sqlite3.Connection, active: Active
) -> tuple[Sequence[Params], Sequence[Outcome], Sequence[Known]]:
    """The points that a search has drawn, what came of them, and what an earlier sweep has found; one that learns
    nothing needs only their number.
    """
    if not active.spec.is_adaptive:
        return [{}] * active.progress.drawn, [], []
    source = active.sweep.warm_from
    known = warm_start.known_points(connection, active.spec, source) if source is not None else []
    drawn = ledger.params_between(connection, active.id, 0, active.progress.drawn)
    return [drawn[point] for point in sorted(drawn)], reuse.outcomes(connection, active.sweep), known
