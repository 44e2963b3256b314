"""Folds, repeats, several metrics, requirements, importance, and how far the best can be believed."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racksack_controller.sweeps.results import ranking
from racksack_controller.sweeps.results.combinations import combine, hypervolume, pareto
from racksack_controller.sweeps.results.fronts import pareto_of
from racksack_controller.sweeps.results.importance import importances
from racksack_controller.sweeps.results.overfitting import (
    deflated_sharpe,
    expected_best_sharpe,
    overfitting_probability,
)
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.sweep import folds
from racksack_jobspecs.sweep.spec import Axis, Metric, SweepSpec, Target
from racksack_jobspecs.write import job_file
from tests.sweeps.rig import Rig, over

JOB = """
project: p
entrypoint: f.py
sweep: {{function: f, params: {{x: "1:4:1"}}, {more}}}
"""


def spec_of(more: str) -> SweepSpec:
    found = parse_job(JOB.format(more=more))
    assert found.sweep is not None
    again = parse_job(job_file(found))
    assert again.sweep == found.sweep, "written and read again it is the same"
    return found.sweep


def test_walk_forward_folds_never_overlap() -> None:
    found = folds.parse("walk-forward:from=2012-01-31,to=2015-01-01,train=1y,test=3mo,step=6mo,purge=5d")
    assert found[0] == {
        "fold": 0, "train_start": "2012-01-31", "train_end": "2013-01-31", "test_start": "2013-02-05",
        "test_end": "2013-05-05",
    }  # fmt: skip
    assert [one["fold"] for one in found] == list(range(len(found)))
    for one in found:
        assert str(one["train_end"]) < str(one["test_start"]) < str(one["test_end"]) <= "2015-01-01"
    rows = folds.parse("walk-forward:from=0,to=100,train=40,test=20")
    assert [(one["test_start"], one["test_end"]) for one in rows] == [(40, 60), (60, 80), (80, 100)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kfold:1", "from 2 to"),
        ("kfold", "from 2 to"),
        ("boot:3", "not a kind of folds"),
        ("walk-forward:train=1y", "needs from="),
        ("walk-forward:from=0,to=100,train=1y,test=1", "not a length here"),
        ("walk-forward:from=0,to=2012-01-01,train=1,test=1", "both be"),
        ("walk-forward:from=0,to=10,train=8,test=8", "room for 0 folds"),
        ("walk-forward:from=0,to=100,train=8,test=8,step=0", "never end"),
        ("walk-forward:from=0,to=999999,train=1,test=1", "more than"),
        ("walk-forward:from=9999-01-01,to=9999-12-01,train=5y,test=1d", "beyond the calendar"),
        ("walk-forward:from=0,from=1", "given once"),
    ],
)
def test_folds_that_are_wrong_get_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        folds.parse(text)


def test_a_fold_that_looks_ahead_is_refused() -> None:
    good = {"train_start": 0, "train_end": 10, "test_start": 10, "test_end": 20}
    assert len(folds.listed([good, {**good, "test_start": 15}])) == 2
    with pytest.raises(ValueError, match="look ahead"):
        folds.listed([good, {**good, "test_start": 9}])


def test_folds_and_repeats_are_axes_of_the_grid() -> None:
    spec = spec_of('folds: "kfold:3", repeat: 2, aggregate: worst, require: "trades >= 30"')
    assert [(axis.name, len(axis.values)) for axis in spec.axes] == [("x", 4), ("fold", 3), ("seed", 2)]
    assert spec.per_combination == 6
    listed = "folds: [{train_start: 0, train_end: 5, test_start: 5, test_end: 9}, {a: 1}]"
    assert spec_of(listed).folds[1] == {"fold": 1, "a": 1}
    for wrong in ('folds: "kfold:3", search: {kind: random, count: 5}', "repeat: 2, params: {seed: [1, 2]}"):
        with pytest.raises(Exception, match=r"needs a grid|rename yours|again|duplicate"):
            spec_of(wrong)


VALUES = st.lists(st.floats(-10, 10) | st.just(math.nan), min_size=0, max_size=30)


@given(VALUES, st.integers(1, 4), st.booleans())
def test_combinations_are_complete_or_left_out(values: list[float], size: int, is_max: bool) -> None:
    points = np.arange(len(values), dtype=np.int64)
    found = combine(points, np.array(values, dtype=np.float64), size, "worst", is_max=is_max)
    expected = {}
    for first in range(0, len(values), size):
        group = values[first : first + size]
        if len(group) == size and not any(map(math.isnan, group)):
            expected[first] = min(group) if is_max else max(group)
    assert dict(zip(found.points.tolist(), found.values.tolist(), strict=True)) == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_the_front_is_what_nobody_dominates(rows: list[tuple[int, int, int]]) -> None:
    values = np.array(rows, dtype=np.float64).reshape(-1, 3)

    def dominated(row: int) -> bool:
        return any((other >= values[row]).all() and (other > values[row]).any() for other in values)

    assert sorted(pareto(values).tolist()) == [row for row in range(len(rows)) if not dominated(row)]


def test_hypervolume() -> None:
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), np.array([0.0, 0.0])) == 6.0


def test_the_deflated_sharpe_ratio_of_the_paper() -> None:
    """Its example: 100 trials with a variance of 1/2 (annual), Sharpe 2.5 over 1,250 days of 250 a year, skewness -3
    and kurtosis 10: 0.1132 is to be beaten, and the probability is 0.9004.
    """
    variance = 0.5 / 250
    assert expected_best_sharpe(variance, 100) == pytest.approx(0.1132, abs=1e-4)
    found = deflated_sharpe(
        2.5 / math.sqrt(250), variance=variance, trials=100, observations=1250, skewness=-3, kurtosis=10
    )
    assert found == pytest.approx(0.9004, abs=1e-4)


def test_overfitting_is_likely_for_noise_and_not_for_skill() -> None:
    noise = np.random.default_rng(1).normal(size=(10, 40))
    found = overfitting_probability(noise)
    assert found is not None
    assert found > 0.3
    skill = noise * 0.1 + np.linspace(0, 5, 40)
    assert overfitting_probability(skill) == 0.0
    assert overfitting_probability(noise[:3]) is None


async def test_a_sweep_over_folds_ranks_combinations(rig: Rig) -> None:
    code = (
        "def f(x, fold, folds, seed):\n"
        "    lucky = 100 if (x, fold) == (1, 0) else 0\n"
        "    return {'score': x + lucky + seed, 'cost': x, 'trades': 10 * x}\n"
    )
    spec = spec_of('folds: "kfold:3", repeat: 2, aggregate: worst, metric: ["score:max", "cost:min"]')
    number = await rig.submit(code, msgspec.structs.replace(spec, target=Target(file="f.py", name="f")))
    await rig.ended(number)
    sweep, progress = await rig.found(number)
    ranked = await rig.app.store.read(lambda connection: ranking.rank(connection, sweep, progress, count=4))
    assert [(row["params"], row["value"]) for row in ranked.rows] == [({"x": x}, x) for x in (4, 3, 2, 1)]
    assert ranked.rows[0]["spread"] == pytest.approx(np.std([4, 5] * 3, ddof=1))

    def front(connection):  # type: ignore[no-untyped-def]
        return pareto_of(connection, sweep, ranking.results_of(connection, sweep), 100)

    assert {row["params"]["x"] for row in (await rig.app.store.read(front)).rows} == {1, 2, 3, 4}


async def test_requirements_and_importance(rig: Rig) -> None:
    code = "def f(x, y):\n    return {'score': -x * x, 'trades': x}\n"
    spec = over(
        0, axes=(Axis("x", tuple(range(20))), Axis("y", (1, 2, 3))), metrics=(Metric("score"),), requires="trades >= 5"
    )
    number = await rig.submit(code, spec)
    await rig.ended(number)
    sweep, progress = await rig.found(number)
    ranked = await rig.app.store.read(lambda connection: ranking.rank(connection, sweep, progress, count=1))
    assert ranked.rows[0]["params"]["x"] == 5

    def look(connection):  # type: ignore[no-untyped-def]
        return importances(connection, sweep, ranking.results_of(connection, sweep))

    shares = {one.name: one.share for one in await rig.app.store.read(look)}
    assert shares["x"] > 0.9
    assert sum(shares.values()) == pytest.approx(1.0)
