"""How far the best of many tried strategies can be believed.

- The deflated Sharpe ratio: the probability that the true Sharpe ratio of the chosen strategy is above what the best of
  N strategies without any skill would show (Bailey and Lopez de Prado, "The Deflated Sharpe Ratio", Journal of
  Portfolio Management 40(5), 2014).
- The probability of backtest overfitting: how often the best strategy on one half of the folds is below the median on
  the other half, over all ways to halve them (Bailey, Borwein, Lopez de Prado, Zhu, "The Probability of Backtest
  Overfitting", Journal of Computational Finance 20(4), 2017).
"""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

EULER_MASCHERONI = 0.5772156649015329
HALVINGS_MAX = 2000  # ways to halve the folds that are looked at

_NORMAL = NormalDist()


def expected_best_sharpe(variance: float, trials: int) -> float:
    """The expected highest Sharpe ratio (per period) of `trials` strategies whose true one is 0.

    `variance`: of the Sharpe ratios that were tried.
    """
    if trials < 2 or variance <= 0:
        return 0.0
    first = _NORMAL.inv_cdf(1 - 1 / trials)
    second = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER_MASCHERONI) * first + EULER_MASCHERONI * second)


def deflated_sharpe(
    sharpe: float, *, variance: float, trials: int, observations: int, skewness: float = 0.0, kurtosis: float = 3.0
) -> float:
    """The probability from 0 to 1 that a strategy is better than the luckiest of those tried would be.

    `sharpe`: per period, not annualised; `observations`: returns that it was computed from; `kurtosis`: 3 for normal
    returns. Raises ValueError for fewer than two observations.
    """
    if observations < 2:
        raise ValueError("a Sharpe ratio needs at least two returns")
    threshold = expected_best_sharpe(variance, trials)
    spread = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if spread <= 0:
        raise ValueError("skewness and kurtosis do not go together with this Sharpe ratio")
    return _NORMAL.cdf((sharpe - threshold) * math.sqrt(observations - 1) / math.sqrt(spread))


def overfitting_probability(scores: npt.NDArray[np.float64]) -> float | None:
    """The share of halvings in which the best on one half is at or below the median on the other.

    `scores`: folds x combinations, more is better, no nan. None with fewer than four folds or two combinations.
    """
    folds, tried = scores.shape
    if folds < 4 or tried < 2:
        return None
    whole = scores[: folds - folds % 2]
    halves = list(combinations(range(len(whole)), len(whole) // 2))
    if len(halves) > HALVINGS_MAX:
        chosen = np.random.default_rng(0).choice(len(halves), HALVINGS_MAX, replace=False)
        halves = [halves[index] for index in chosen]
    below = 0
    for half in halves:
        inside = np.zeros(len(whole), dtype=np.bool_)
        inside[list(half)] = True
        best = int(np.argmax(whole[inside].mean(axis=0)))
        outside = whole[~inside].mean(axis=0)
        rank = (np.count_nonzero(outside < outside[best]) + 0.5 * np.count_nonzero(outside == outside[best])) / tried
        below += rank <= 0.5
    return below / len(halves)
