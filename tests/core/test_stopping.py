"""The rules that stop points early, against plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from racksack_controller.core.sweeps.stopping import Rungs, brackets, rungs
from racksack_jobspecs.sweep.spec import Stopping

KINDS = st.sampled_from(["asha", "hyperband", "median"])
STOPPINGS = st.builds(
    lambda kind, grace, reduction, count: Stopping(kind=kind, grace=grace, reduction=reduction, rungs=count),
    KINDS,
    st.sampled_from([1.0, 2.5, 10.0]),
    st.integers(2, 5),
    st.integers(1, 6),
)
REPORTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 300), st.floats(-100, 100)), max_size=200)


def test_where_the_rungs_are() -> None:
    assert rungs(Stopping(kind="asha", grace=2, reduction=3, rungs=4)) == [2, 6, 18, 54]
    assert rungs(Stopping(kind="median", grace=5, rungs=3)) == [5, 10, 15]
    assert brackets(Stopping(kind="hyperband", rungs=8)) == 4


@given(STOPPINGS, st.booleans(), REPORTS)
def test_a_point_goes_on_if_it_is_among_the_best_of_its_rung(
    stopping: Stopping, is_max: bool, reports: list[tuple[int, int, float]]
) -> None:
    ours = Rungs(stopping, is_max=is_max)
    steps, ladders = rungs(stopping), brackets(stopping)
    values: dict[tuple[int, int], list[float]] = {}
    reached: dict[int, int] = {}
    for point, step, value in reports:
        rung = sum(1 for at in steps if at <= step) - 1
        verdict = ours.judge(point, step, value)
        if rung < point % ladders or rung <= reached.get(point, -1):
            assert verdict is None
            continue
        others = values.setdefault((point % ladders, rung), [])
        score = value if is_max else -value
        share = 0.5 if stopping.kind == "median" else 1 - 1 / stopping.reduction
        least = 5 if stopping.kind == "median" else 1
        assert verdict is not None
        assert verdict.rung == rung
        if len(others) < least:
            assert not verdict.stop
        elif abs(score - float(np.quantile(others, share))) > 1e-6:  # at the line itself rounding decides
            assert verdict.stop == (score < float(np.quantile(others, share)))
        others.append(score)
        reached[point] = rung


@given(STOPPINGS, REPORTS, st.integers(0, 200))
def test_what_was_saved_makes_the_same_rungs(
    stopping: Stopping, reports: list[tuple[int, int, float]], cut: int
) -> None:
    whole, first = Rungs(stopping, is_max=True), Rungs(stopping, is_max=True)
    verdicts = [whole.judge(*report) for report in reports]
    saved = [one for one in (first.judge(*report) for report in reports[:cut]) if one is not None]
    again = Rungs(stopping, is_max=True)
    again.restore(saved)
    assert [again.judge(*report) for report in reports[cut:]] == verdicts[cut:]


def test_a_value_that_is_no_number_is_the_worst() -> None:
    ours = Rungs(Stopping(), is_max=False)
    assert ours.judge(0, 1, 5.0)
    verdict = ours.judge(1, 1, math.nan)
    assert verdict is not None
    assert verdict.stop
