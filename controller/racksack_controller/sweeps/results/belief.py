"""How sure the best of a sweep is, in sentences: what a report says before it shows a winner."""

from __future__ import annotations

import math
import sqlite3

import msgspec
import numpy as np

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results import tables
from racksack_controller.sweeps.results.combinations import Floats, Ints, combine
from racksack_controller.sweeps.results.overfitting import deflated_sharpe, overfitting_probability
from racksack_controller.sweeps.results.ranking import Ranking, Results, values_by
from racksack_jobspecs.sweep.spec import SweepSpec

SURE = 0.95
OVERFITTED = 0.1  # noise comes to about a half


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say about the best points."""

    sentences: list[str]
    is_found: bool  # False: what was tried is explained by luck


def believe(connection: sqlite3.Connection, sweep: Sweep, results: Results, best: Ranking) -> Belief:
    """Judge the best of a ranking by the sweep's first metric, by how many were tried and how they did on folds."""
    spec, sentences, found = sweep.sweep, [], True
    metric = spec.metrics[0]
    table, values = values_by(connection, sweep, results, metric.name)
    values = values if metric.direction == "max" else -values
    tried = combine(table.points, values, spec.per_combination, spec.aggregate, is_max=True)
    sentences.append(f"{len(tried.points):,} combinations have a value.")
    scores = _on_folds(spec, table.points, values)
    share = overfitting_probability(scores) if scores is not None else None
    if share is not None:
        found = share < OVERFITTED
        sentences.append(
            f"Probability of backtest overfitting: {share:.0%} (in so many ways to halve the folds, what is best on "
            f"one half is below the median on the other).{'' if found else ' What looks best here may well be luck.'}"
        )
    deflated = _deflated(results, metric.name, best, tried.values)
    if deflated is not None:
        found = found and deflated >= SURE
        verdict = "it holds" if deflated >= SURE else "not enough to believe it"
        sentences.append(f"Deflated Sharpe ratio of the best: {deflated:.1%} ({verdict}).")
    if share is None and deflated is None:
        sentences.append("Whether the best one holds on other data was not tested: use --folds, or --control.")
    return Belief(sentences=sentences, is_found=found)


def _on_folds(spec: SweepSpec, points: Ints, values: Floats) -> Floats | None:
    """Folds x combinations, the mean over repeats; None without folds."""
    folds, size = len(spec.folds), spec.per_combination
    if not folds:
        return None
    order = np.argsort(points, kind="stable")
    known = order[~np.isnan(values[order])]
    _, first, counts = np.unique(points[known] // size, return_index=True, return_counts=True)
    rows = first[counts == size][:, None] + np.arange(size)[None, :]
    return values[known][rows].reshape(-1, folds, spec.repeats).mean(axis=2).T if len(rows) else None


def _deflated(results: Results, metric: str, best: Ranking, tried: Floats) -> float | None:
    """Of a metric that is a Sharpe ratio, where the points also return `observations`; None otherwise.

    The ratio is taken to be per observation. `skewness` and `kurtosis` are used where the points return them.
    """
    if "sharpe" not in metric.lower() or not best.rows or len(tried) < 2:
        return None
    row = tables.rows_among(results.segments, [int(best.rows[0]["point"])]).get(int(best.rows[0]["point"]), {})
    observations = row.get("observations")
    if not isinstance(observations, int | float) or not observations >= 2:
        return None
    extra: dict[str, float] = {}
    for name in ("skewness", "kurtosis"):
        value = row.get(name)
        if isinstance(value, int | float):
            extra[name] = float(value)
    try:
        found = deflated_sharpe(
            float(best.rows[0]["value"]), variance=float(np.var(tried, ddof=1)), trials=len(tried),
            observations=int(observations), **extra,
        )  # fmt: skip
    except ValueError:
        return None  # figures that do not go together say nothing
    return found if math.isfinite(found) else None
