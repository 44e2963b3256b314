"""What is asked of a sweep's results, each a function of a reading connection, the sweep and plain arguments.

They are computed in the sandbox: an expression or a million points may take what they take, and delay nobody else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.sweeps.results import ranking, reports
from racksack_controller.sweeps.results.belief import Belief, believe
from racksack_controller.sweeps.results.curve_plot import CurvePlot, curve_plot
from racksack_controller.sweeps.results.fronts import pareto_of
from racksack_controller.sweeps.results.importance import Importance, importances
from racksack_controller.sweeps.results.plots import Plots, plots
from racksack_controller.sweeps.results.ranking import Ranking

FRONT_MAX = 50


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The best points and the plots of a sweep's page."""

    ranked: Ranking
    plots: Plots | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a report of a sweep shows."""

    best: Ranking
    belief: Belief
    plots: Plots | None
    curves: CurvePlot | None
    shares: list[Importance]
    note: str  # why there are no shares
    front: Ranking | None


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """What one point reported over its steps."""

    point: int
    steps: list[int | float]
    values: list[float]
    stopped: bool


def rank(
    connection: sqlite3.Connection, sweep: Sweep, progress: Progress, *, by: str | None, count: int, run: int
) -> Ranking:
    """The best points. Raises ValueError."""
    return ranking.rank(connection, sweep, progress, by=by, count=count, run=run)


def front(connection: sqlite3.Connection, sweep: Sweep, _progress: Progress, *, count: int, run: int) -> Ranking:
    """The Pareto front. Raises ValueError."""
    return pareto_of(connection, sweep, ranking.results_of(connection, sweep, run), count)


def importance(connection: sqlite3.Connection, sweep: Sweep, _progress: Progress, *, run: int) -> list[Importance]:
    """How much each parameter matters. Raises ValueError."""
    return importances(connection, sweep, ranking.results_of(connection, sweep, run))


def curves(
    connection: sqlite3.Connection, sweep: Sweep, progress: Progress, *, metric: str, count: int, run: int
) -> list[Curve]:
    """The curves of the best points. Raises ValueError."""
    best = ranking.rank(connection, sweep, progress, count=count, run=run)
    points = [int(row["point"]) for row in best.rows]
    lines = reports.curves_of(connection, sweep.id, run, metric, points)
    stopped = {one.point for one in reports.verdicts_of(connection, sweep.id, run) if one.stop}
    return [
        Curve(
            point=point,
            steps=[step for step, _ in lines[point]],
            values=[value for _, value in lines[point]],
            stopped=point in stopped,
        )
        for point in points
        if point in lines
    ]


def page(
    connection: sqlite3.Connection,
    sweep: Sweep,
    progress: Progress,
    *,
    by: str | None,
    pair: tuple[str, str] | None,
    count: int,
) -> Page:
    """The best points, and plots by two parameters. Raises ValueError."""
    results = ranking.results_of(connection, sweep)
    ranked = ranking.rank_of(connection, sweep, progress, results, by=by, count=count)
    return Page(ranked=ranked, plots=plots(connection, sweep, results, by, pair))


def summary(connection: sqlite3.Connection, sweep: Sweep, progress: Progress, *, count: int, run: int) -> Summary:
    """All that a report shows. Raises ValueError."""
    results = ranking.results_of(connection, sweep, run)
    best = ranking.rank_of(connection, sweep, progress, results, count=count)
    shares, note = [], ""
    try:
        shares = importances(connection, sweep, results)
    except ValueError as error:
        note = str(error)
    return Summary(
        best=best,
        belief=believe(connection, sweep, results, best),
        plots=plots(connection, sweep, results, None, None),
        curves=curve_plot(connection, sweep, run, [int(row["point"]) for row in best.rows]),
        shares=shares,
        note=note,
        front=pareto_of(connection, sweep, results, FRONT_MAX) if len(sweep.sweep.metrics) > 1 else None,
    )


QUERIES: Mapping[str, Callable[..., Any]] = {
    "rank": rank,
    "front": front,
    "importance": importance,
    "curves": curves,
    "page": page,
    "summary": summary,
}


def answer(
    connection: sqlite3.Connection, sweep: Sweep, progress: Progress, name: str, arguments: Mapping[str, Any]
) -> bytes:
    """What a query gives, as MessagePack. Raises ValueError with a sentence."""
    return msgspec.msgpack.encode(QUERIES[name](connection, sweep, progress, **arguments))
