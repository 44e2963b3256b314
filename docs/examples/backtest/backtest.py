"""A moving-average strategy over a price series, as a function of its parameters.

The series is a random walk with changing volatility, generated from a fixed seed: 139,678 bars of five minutes, about
1.3 years without a pause. It and its sums are made once for each worker, so that a point costs a millisecond or two.

    racksack sweep run . backtest.py:evaluate --param fast=1:64:1 --param slow=16:527:2 \\
        --where "fast < slow" --metric sharpe:max --cpus 4
"""

from functools import lru_cache

import numpy as np

BARS = 139_678
BARS_A_YEAR = 365 * 24 * 12
PARTS = {"all": (0.0, 1.0), "main": (0.0, 0.7), "control": (0.7, 1.0)}


@lru_cache(maxsize=4)
def market(seed):
    """The changes of the logarithm of the price, and its sums, which give any moving average by one subtraction."""
    rng = np.random.default_rng(seed)
    volatility = 0.001 * np.exp(0.5 * np.sin(np.arange(BARS) / 4000) + 0.2 * rng.standard_normal(BARS))
    drift = 0.00002 * np.sin(np.arange(BARS) / 9000)
    changes = drift + volatility * rng.standard_normal(BARS)
    price = np.cumsum(changes)
    return changes, np.concatenate(([0.0], np.cumsum(price)))


def average(sums, bars, first):
    """The moving average over so many bars, from bar `first` on."""
    return (sums[first + 1 :] - sums[first + 1 - bars : -bars]) / bars


def evaluate(fast, slow, fee=0.0002, seed=7, part="main"):
    """Long while the fast average is above the slow one, short while it is below; the result of it all as metrics."""
    fast, slow = int(fast), int(slow)
    changes, sums = market(seed)
    first = max(fast, slow)
    signal = np.sign(average(sums, fast, first) - average(sums, slow, first))
    low, high = (int(share * len(signal)) for share in PARTS[part])
    position = signal[low:high][:-1]
    gains = position * changes[first:][low:high][1:]
    trades = np.abs(np.diff(position, prepend=0.0))
    gains = gains - fee * trades
    worth = np.cumsum(gains)
    deviation = float(gains.std())
    return {
        "sharpe": float(gains.mean()) / deviation * BARS_A_YEAR**0.5 if deviation else 0.0,
        "profit": float(worth[-1]),
        "drawdown": float((np.maximum.accumulate(worth) - worth).max()),
        "trades": int(np.count_nonzero(trades)),
    }
