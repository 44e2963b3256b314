"""Ranking, plots and exports over a real ledger: equal to a plain sort, bounded, and quick with a million points."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_controller.core.sweeps.records import CONTROL, Failure, Sweep
from racksack_controller.store import open_database
from racksack_controller.sweeps.results import ledger, ranking, tables
from racksack_controller.sweeps.results.export import Export
from racksack_controller.sweeps.results.plots import CELLS_MAX, DOTS_MAX, LINES_MAX, STEPS_MAX, plots
from racksack_controller.sweeps.results.segments import build
from racksack_controller.sweeps.search.grid import allowed
from racksack_jobspecs.sweep.spec import Axis, Domain, Metric, Search, params_of
from tests.sweeps.builders import progress, segment, sweep, sweep_spec

GRID = sweep_spec(
    axes=(Axis("a", tuple(range(1, 9))), Axis("b", (0.1, 0.2, 0.4)), Axis("kind", ("x", "<b>y</b>"))),
    metrics=(Metric("score", "max"), Metric("cost", "min")),
)


def measured(params: dict[str, Any]) -> dict[str, Any]:
    score = math.sin(params["a"]) / params["b"] + (params["kind"] == "x")
    return {"score": score, "cost": params["a"] * 10, "note": "=1+1"}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(tmp_path / "racksack.db")
    yield connection
    connection.close()


@pytest.fixture
def made(connection: sqlite3.Connection) -> Sweep:
    """48 points: two failed, the others in two segments, the second one first."""
    made = sweep(spec=GRID)
    ledger.add_sweep(connection, made, progress(made))
    results = [measured(params_of(GRID, point)) for point in range(48)]
    ledger.add_segments(connection, 1, 0, 0, [segment(range(24, 46), results[24:46]), segment(range(24), results[:24])])
    ledger.put_failures(connection, 1, 0, [Failure(point=p, tries=2, kind="error", sentence="no") for p in (46, 47)])
    return made


def points(ranked: ranking.Ranking) -> list[int]:
    return [row["point"] for row in ranked.rows]


def by(key: Any, *, is_max: bool = True, count: int = 46) -> list[int]:
    """The definition: all points sorted, equal ones by number."""
    values = {point: key(params_of(GRID, point), measured(params_of(GRID, point))) for point in range(46)}
    known = [point for point in values if not math.isnan(values[point])]
    return sorted(known, key=lambda point: (-values[point] if is_max else values[point], point))[:count]


@pytest.mark.parametrize(
    ("text", "key", "is_max"),
    [
        (None, lambda p, m: m["score"], True),
        ("cost", lambda p, m: m["cost"], False),
        ("cost:max", lambda p, m: m["cost"], True),
        ("score / (1 + cost)", lambda p, m: m["score"] / (1 + m["cost"]), True),
        ("score * b - a:min", lambda p, m: m["score"] * p["b"] - p["a"], False),
        ("score if kind == 'x' else -1", lambda p, m: m["score"] if p["kind"] == "x" else -1, True),
        ("1 / (a - 3)", lambda p, m: 1 / (p["a"] - 3) if p["a"] != 3 else math.nan, True),
        ("point", lambda p, m: 0, True),
    ],
)
def test_top_is_a_plain_sort(
    connection: sqlite3.Connection, made: Sweep, text: str | None, key: Any, is_max: bool
) -> None:
    expected = list(range(45, -1, -1)) if text == "point" else by(key, is_max=is_max)
    ranked = ranking.rank(connection, made, progress(made), by=text, count=100)
    assert points(ranked) == expected
    assert ranked.ranked == len(expected)
    first = ranked.rows[0]
    assert first["params"] == params_of(GRID, first["point"])
    assert first["metrics"] == pytest.approx(measured(first["params"]))


@pytest.mark.parametrize(
    ("text", "words"),
    [("scroe", "did you mean score?"), ("score +", "is not an expression"), ("kind + 1", "has no value here"),
     ("kind", "gives no numbers"), ("__import__('os')", "no function here")],
)  # fmt: skip
def test_a_wrong_expression_gets_a_sentence(connection: sqlite3.Connection, made: Sweep, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        ranking.rank(connection, made, progress(made), by=text)


def test_a_metric_that_no_point_tells_gets_a_sentence(connection: sqlite3.Connection) -> None:
    """Such as the default one, where --metric was left out."""
    made = sweep(spec=sweep_spec(axes=GRID.axes, metrics=(Metric("value", "max"),)))
    ledger.add_sweep(connection, made, progress(made))
    ledger.add_segments(connection, 1, 0, 0, [segment([0], [measured(params_of(GRID, 0))])])
    with pytest.raises(ValueError, match=re.escape("no metric value; they report score, cost, note: rank by one")):
        ranking.rank(connection, made, progress(made))


def test_the_control_run_stands_beside(connection: sqlite3.Connection, made: Sweep) -> None:
    best = by(lambda p, m: m["score"], count=3)
    results = [{"score": float(place)} for place in range(3)]
    ledger.add_segments(connection, 1, CONTROL, 0, [segment(best, results)])
    ranked = ranking.rank(connection, made, progress(made, run=CONTROL), count=4)
    assert [row.get("control") for row in ranked.rows] == [{"score": 0.0}, {"score": 1.0}, {"score": 2.0}, None]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(math.nan)), max_size=60),
    st.integers(0, 12),
    st.booleans(),
)
def test_the_best_of_any_values(values: list[float], count: int, is_max: bool) -> None:
    numbers = np.arange(len(values), dtype=np.int64)
    found = tables.best(np.array(values, dtype=float), numbers, count, is_max=is_max).tolist()
    known = [place for place, value in enumerate(values) if not math.isnan(value)]
    assert found == sorted(known, key=lambda place: (-values[place] if is_max else values[place], place))[:count]


@pytest.mark.parametrize("is_max", [True, False])
@pytest.mark.parametrize("shape", ["random", "equal", "rising", "mostly nan", "few levels"])
def test_the_best_of_very_many_values(shape: str, is_max: bool) -> None:
    rng, count = np.random.default_rng(1), 300_000
    values = {
        "random": rng.standard_normal(count),
        "equal": np.zeros(count),
        "rising": np.arange(count, dtype=float),
        "mostly nan": np.where(rng.random(count) < 0.999, np.nan, rng.random(count)),
        "few levels": rng.integers(0, 4, count).astype(float),
    }[shape]
    numbers = rng.permutation(count).astype(np.int64)
    found = tables.best(values, numbers, 50, is_max=is_max)
    valid = np.flatnonzero(~np.isnan(values))
    keys = -values[valid] if is_max else values[valid]
    assert found.tolist() == valid[np.lexsort((numbers[valid], keys))[:50]].tolist()


def exported(connection: sqlite3.Connection, made: Sweep, *, as_csv: bool) -> str:
    export, text = Export(connection, made, 0, as_csv=as_csv), b""
    while block := export.next_block(connection):
        text += block
    return text.decode()


def test_an_export_has_every_point_once(connection: sqlite3.Connection, made: Sweep) -> None:
    lines = list(csv.DictReader(io.StringIO(exported(connection, made, as_csv=True))))
    assert [int(line["point"]) for line in lines] == list(range(48))
    assert lines[3]["kind"] == "<b>y</b>"
    assert lines[3]["note"] == "'=1+1", "no spreadsheet takes it for a formula"
    assert (lines[47]["failure"], lines[47]["score"]) == ("error: no", "")
    rows = [json.loads(line) for line in exported(connection, made, as_csv=False).splitlines()]
    assert [row["params"] for row in rows] == [params_of(GRID, point) for point in range(48)]
    assert rows[5]["metrics"] == pytest.approx(measured(params_of(GRID, 5)))


def test_an_empty_sweep_has_a_header_and_no_plots(connection: sqlite3.Connection) -> None:
    made = sweep(spec=GRID)
    ledger.add_sweep(connection, made, progress(made))
    assert exported(connection, made, as_csv=True).startswith("point,a,b,kind")
    assert plots(connection, made, ranking.results_of(connection, made)) is None
    assert ranking.rank(connection, made, progress(made)).rows == []


def test_plots_are_bounded_and_inside(connection: sqlite3.Connection, made: Sweep) -> None:
    drawn = plots(connection, made, ranking.results_of(connection, made))
    assert drawn is not None
    assert [one.scale.name for one in drawn.scatters] == ["a", "b", "kind"]
    for one in drawn.scatters:
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y, _ in one.dots)
        assert max(y for _, y in one.best) == 1.0, "the best value is the top of the axis"
    assert drawn.heat is not None
    assert (drawn.heat.columns, drawn.heat.rows, len(drawn.heat.cells)) == (8, 3, 23)
    assert all(len(heights) == 4 for _, heights in drawn.lines)
    heights = [height for _, height in drawn.convergence]
    assert heights == sorted(heights)


def test_the_heat_map_of_a_sweep_that_runs_has_a_place_for_each_value(connection: sqlite3.Connection) -> None:
    """Only points of a=5 and a=6 are done: they are drawn where they are on the whole axis."""
    made = sweep(spec=GRID)
    ledger.add_sweep(connection, made, progress(made))
    done = range(24, 36)
    ledger.add_segments(connection, 1, 0, 0, [segment(done, [measured(params_of(GRID, point)) for point in done])])
    drawn = plots(connection, made, ranking.results_of(connection, made), pair=("a", "b"))
    assert drawn is not None
    assert drawn.heat is not None
    assert (drawn.heat.columns, drawn.heat.rows) == (8, 3)
    assert {column for column, *_ in drawn.heat.cells} == {4, 5}


def test_plots_of_drawn_points(connection: sqlite3.Connection) -> None:
    spec = sweep_spec(
        axes=(Axis("k", (1, 2, 3), "x > 0.5"),),
        domains=(Domain(name="x", low=0.0, high=1.0),),
        search=Search(kind="random", count=50),
        metrics=(Metric("loss", "min"),),
    )
    made = sweep(spec=spec)
    ledger.add_sweep(connection, made, progress(made))
    drawn = [{"x": i / 50, **({"k": i % 3 + 1} if i > 25 else {})} for i in range(50)]
    ledger.add_params(connection, 1, 0, drawn)
    ledger.add_segments(connection, 1, 0, 0, [segment(range(50), [{"loss": (one["x"] - 0.3) ** 2} for one in drawn])])
    found = plots(connection, made, ranking.results_of(connection, made))
    assert found is not None
    k, x = found.scatters
    assert (len(k.dots), len(x.dots)) == (24, 50), "a point that has no k is not drawn against it"
    assert sum(heights[0] is None for _, heights in found.lines) == 26, "but it has its line past that axis"
    assert found.has_partial_lines
    ranked = ranking.rank(connection, made, progress(made), by="loss + 0 * x:min", count=1)
    assert ranked.rows[0]["params"] == {"x": 0.3}


def test_what_is_made_of_a_million_points_is_bounded(connection: sqlite3.Connection) -> None:
    spec = sweep_spec(axes=(Axis("a", tuple(range(1000))), Axis("b", tuple(range(1000)))), metrics=(Metric("m"),))
    made = sweep(spec=spec)
    ledger.add_sweep(connection, made, progress(made))
    rng = np.random.default_rng(3)
    values = rng.standard_normal(1_000_000)
    for low in range(0, 1_000_000, 65_536):
        high = min(low + 65_536, 1_000_000)
        numbers, seconds = np.arange(low, high, dtype=np.int64), np.ones(high - low, dtype=np.float32)
        metrics = {"m": values[low:high], "n": values[low:high] * 2, "o": np.arange(low, high, dtype=np.int64)}
        ledger.add_segments(connection, 1, 0, 0, [build(numbers, seconds, metrics)])
    connection.commit()
    assert points(ranking.rank(connection, made, progress(made), count=100)) == np.argsort(-values)[:100].tolist()
    expected = np.argsort(-values * 2 / (1 + np.arange(1_000_000) // 1000))[:5].tolist()
    assert points(ranking.rank(connection, made, progress(made), by="n / (1 + a)", count=5)) == expected
    drawn = plots(connection, made, ranking.results_of(connection, made))
    assert drawn is not None
    assert all(len(one.dots) <= DOTS_MAX + 100 for one in drawn.scatters)
    assert drawn.heat is not None
    assert len(drawn.heat.cells) <= CELLS_MAX**2
    assert len(drawn.lines) <= LINES_MAX + 20
    assert len(drawn.convergence) <= STEPS_MAX


def test_points_of_a_grid_that_lack_a_parameter_have_no_value_of_it(connection: sqlite3.Connection) -> None:
    axes = (
        Axis("algo", ("tree", "net")),
        Axis("depth", (1, 2, 3), "algo == 'tree'"),
        Axis("kind", ("x", "y"), "depth > 1"),
    )
    made = sweep(spec=sweep_spec(axes=axes, metrics=(Metric("score"),)))
    ledger.add_sweep(connection, made, progress(made))
    numbers = [point for low, high in allowed(made.sweep) for point in range(low, high)]
    assert numbers == [0, 2, 3, 4, 5, 6]
    ledger.add_segments(connection, 1, 0, 0, [segment(numbers, [{"score": float(at)} for at in numbers])])
    found = ranking.param_columns(connection, made, np.array(numbers), ["depth", "kind"])
    assert found["depth"].tolist()[:5] == [1, 2, 2, 3, 3]
    assert np.isnan(found["depth"][5])
    assert found["kind"].tolist() == [None, "x", "y", "x", "y", None]
    assert ranking.rank(connection, made, progress(made), by="score / depth:min", count=9).ranked == 5
    drawn = plots(connection, made, ranking.results_of(connection, made))
    assert drawn is not None
    assert [len(one.dots) for one in drawn.scatters] == [6, 5, 4]
    assert drawn.has_partial_lines
