"""How much each parameter of a sweep matters for its metric: PED-ANOVA (Watanabe, Bansal, Hutter, IJCAI 2023), which
compares where the best points lie with where all of them lie. Optuna computes it; a sample is enough.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import numpy as np

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.results import ranking
from racksack_controller.sweeps.results.tables import params_of_points
from racksack_jobspecs.sweep.spec import FOLD, SEED, Params

LOOKED_AT_MAX = 5_000
POINTS_LEAST = 10


class Importance(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter's share of what decides the metric; all shares add up to 1."""

    name: str
    share: float


def importances(connection: sqlite3.Connection, sweep: Sweep, results: ranking.Results) -> list[Importance]:
    """The parameters, the most important first; none while too few points have a value or nothing varies.

    Raises ValueError where Optuna is not installed.
    """
    metric = sweep.sweep.metrics[0]
    found, values = ranking.values_by(connection, sweep, results, metric.name)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < POINTS_LEAST:
        return []
    chosen = np.random.default_rng(0).choice(known, min(len(known), LOOKED_AT_MAX), replace=False)
    points = [int(point) for point in found.points[chosen]]
    params = params_of_points(connection, sweep, points)
    return _evaluated([params[point] for point in points], values[chosen].tolist(), is_max=metric.direction == "max")


def _evaluated(params: list[Params], values: list[float], *, is_max: bool) -> list[Importance]:
    try:
        import optuna
        from optuna.importance import PedAnovaImportanceEvaluator
    except ImportError:
        raise ValueError("importance needs Optuna on the controller: install racksack with [sweeps]") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = [name for name in params[0] if name not in (FOLD, SEED) and all(name in one for one in params)]
    distributions = {name: _distribution(optuna, [one[name] for one in params]) for name in names}
    varied = {name: one for name, one in distributions.items() if one is not None}
    if not varied or len(set(values)) < 2:
        return []
    study = optuna.create_study(direction="maximize" if is_max else "minimize")
    trials = [
        optuna.trial.create_trial(params={name: one[name] for name in varied}, distributions=varied, value=value)
        for one, value in zip(params, values, strict=True)
    ]
    study.add_trials(trials)
    found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    total = sum(found.values())
    if not total > 0:
        return []
    return [Importance(name=name, share=float(share) / total) for name, share in found.items()]


def _distribution(optuna: Any, values: list[Any]) -> Any:  # noqa: ANN401 - Optuna has no types
    """The range of one parameter; None when it does not vary."""
    different = list(dict.fromkeys(values))
    if len(different) < 2:
        return None
    numbers = [value for value in different if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(different):
        return optuna.distributions.CategoricalDistribution(different)
    if all(isinstance(value, int) for value in numbers):
        return optuna.distributions.IntDistribution(min(numbers), max(numbers))
    return optuna.distributions.FloatDistribution(float(min(numbers)), float(max(numbers)))
