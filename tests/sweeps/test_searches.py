"""Searches: the seed says what they draw, `where` holds, a restart goes on where it was, and they find what is good."""

import math
from collections.abc import Callable

import pytest

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.search.optuna_search import make_drawer
from racksack_controller.sweeps.search.protocol import Drawer, Known
from racksack_controller.sweeps.search.samplers import SearchError, distinct_points
from racksack_controller.sweeps.search.warm_start import in_space
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.sweep.spec import Params

KINDS = ("random", "lhs", "sobol", "tpe", "cmaes", "ga")


def sweep(search: str, params: str = "{x: '-2.0:2.0', y: 0:40:1}", rest: str = "metric: [loss:min]") -> Sweep:
    spec = parse_job(
        f"project: up1\nentrypoint: m.py\nsweep: {{function: f, params: {params}, search: {{{search}}}, {rest}}}\n"
    )
    return Sweep(id=1, owner="u", spec=spec, snapshot="", submitted_at_s=0.0, code="", points_total=0, waits_for=())


def bowl(params: Params) -> float:
    """Least at x = 0.7, y = 30."""
    x, y = params["x"], params["y"]
    assert isinstance(x, float)
    assert isinstance(y, int)
    return (x - 0.7) ** 2 + ((y - 30) / 20) ** 2


def run(
    drawer: Drawer, count: int, value: Callable[[Params], float | None], first: int = 0, at_once: int = 4
) -> list[Params]:
    """Draw and tell as a dispatcher does: some at a time, told in another order."""
    drawn: list[Params] = []
    while len(drawn) < count:
        batch = drawer.draw(min(at_once, count - len(drawn)))
        assert batch, "a search must go on once all that it drew has an outcome"
        numbers = range(first + len(drawn), first + len(drawn) + len(batch))
        drawn += batch
        drawer.tell([(point, value(params)) for point, params in zip(numbers, batch, strict=True)][::-1])
    return drawn


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_says_what_is_drawn(kind: str) -> None:
    first, again, other = (
        run(make_drawer(sweep(f"kind: {kind}, count: 30, seed: {seed}"), [], []), 30, bowl) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    for params in first:
        assert list(params) == ["y", "x"], "numbered ones first"
        assert -2 <= float(str(params["x"])) <= 2
        assert params["y"] in range(41)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [5, 16, 21])
def test_a_restart_goes_on_where_it_was(kind: str, before: int) -> None:
    made = sweep(
        f"kind: {kind}, count: 40, seed: 3, population: 8" if kind in ("cmaes", "ga") else f"kind: {kind}, count: 40"
    )
    whole = run(make_drawer(made, [], []), 40, bowl, at_once=1)
    stored = whole[:before]
    outcomes = [(point, bowl(params)) for point, params in enumerate(stored)]
    rest = run(make_drawer(made, stored, outcomes), 40 - before, bowl, first=before, at_once=1)
    if kind == "tpe":  # it has the same knowledge, and draws from it anew
        assert len({repr(one) for one in (*stored, *rest)}) > 30
    else:
        assert stored + rest == whole


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "ga"])
def test_what_was_under_way_at_a_restart_may_still_be_told(kind: str) -> None:
    made = sweep(f"kind: {kind}, count: 40, seed: 3")
    drawer = make_drawer(made, [], [])
    drawn = drawer.draw(6)
    again = make_drawer(made, drawn, [(0, bowl(drawn[0])), (3, None)])
    again.tell([(point, bowl(drawn[point])) for point in (5, 4, 2, 1)])
    run(again, 20, bowl, first=6)


@pytest.mark.parametrize(("kind", "count"), [("tpe", 80), ("cmaes", 120), ("ga", 300)])
def test_a_search_that_learns_beats_chance(kind: str, count: int) -> None:
    drawn = run(make_drawer(sweep(f"kind: {kind}, count: {count}, seed: 1"), [], []), count, bowl)
    late = sorted(map(bowl, drawn[count // 2 :]))
    chance = sorted(map(bowl, run(make_drawer(sweep(f"kind: random, count: {count}, seed: 1"), [], []), count, bowl)))
    assert late[len(late) // 2] < 0.5 * chance[len(chance) // 2], "the middle of its second half"


@pytest.mark.parametrize("kind", ["tpe", "cmaes", "ga"])
def test_a_search_that_knows_an_earlier_sweep_begins_where_that_ended(kind: str) -> None:
    made = sweep(f"kind: {kind}, count: 24, seed: 5" + ("" if kind == "tpe" else ", population: 8"))
    near: list[Known] = [({"y": 30, "x": 0.7 + step / 50}, (step / 50) ** 2) for step in range(-10, 11)]
    far: list[Known] = [({"y": 1, "x": -1.5 + step / 50}, 5.0) for step in range(10)]
    warm = run(make_drawer(made, [], [], near + far), 24, bowl)
    cold = run(make_drawer(made, [], []), 24, bowl)
    assert sorted(map(bowl, warm))[12] < sorted(map(bowl, cold))[12], "the middle one"
    again = run(make_drawer(made, [], [], near + far), 24, bowl)
    assert again == warm


def test_which_earlier_points_a_space_has() -> None:
    space = sweep("kind: tpe, count: 5").sweep
    assert in_space(space, {"x": 0.5, "y": 3, "other": 1}) == {"y": 3, "x": 0.5}
    outside: list[Params] = [{"x": 2.5, "y": 3}, {"x": 0.5, "y": 41}, {"x": 0.5, "y": 3.0}, {"y": 3}]
    for params in (*outside, {"x": "0.5", "y": 3}, {"x": math.nan, "y": 3}):
        assert in_space(space, params) is None, params


def test_a_generation_waits_for_the_one_before_it() -> None:
    drawer = make_drawer(sweep("kind: ga, count: 100, population: 10"), [], [])
    drawn = drawer.draw(50)
    assert len(drawn) == 10
    assert drawer.draw(5) == []
    drawer.tell([(point, 1.0) for point in range(9)])
    assert drawer.draw(5) == []
    drawer.tell([(9, None)])  # it failed; that is an outcome too
    assert len(drawer.draw(50)) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_is_not_drawn(kind: str) -> None:
    made = sweep(f"kind: {kind}, count: 40", "{a: 1:20:1, b: 1:20:1, c: '0.0:1.0'}", "where: a < b and c > 0.2")
    for params in run(make_drawer(made, [], []), 40, lambda params: float(str(params["c"]))):
        assert int(str(params["a"])) < int(str(params["b"]))
        assert float(str(params["c"])) > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_without_points_is_said_to_be_one(kind: str) -> None:
    made = sweep(f"kind: {kind}, count: 5", "{a: 1:20:1, c: '0.0:1.0'}", "where: a > 100")
    with pytest.raises(SearchError, match="left out"):
        make_drawer(made, [], []).draw(1)


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_and_words(kind: str) -> None:
    params = (
        "{algo: [knn, svm], n: 1:5:1, k: {values: 1:9:1, if: \"algo == 'knn'\"}, "
        "c: {values: 'log:0.01:100', if: \"algo == 'svm'\"}}"
    )
    drawn = run(make_drawer(sweep(f"kind: {kind}, count: 60", params), [], []), 60, lambda params: len(params))
    assert {one["algo"] for one in drawn} == {"knn", "svm"}
    for one in drawn:
        assert ("k" in one) == (one["algo"] == "knn")
        assert ("c" in one) == (one["algo"] == "svm")
        assert 0.01 <= float(str(one.get("c", 1))) <= 100


def test_random_points_of_a_grid_do_not_repeat() -> None:
    made = sweep("kind: random, count: 150, seed: 4", "{a: 1:20:1, b: 1:20:1}", "where: a < b")
    drawn = run(make_drawer(made, [], []), 150, lambda params: 0.0, at_once=7)
    assert len({tuple(one.values()) for one in drawn}) == 150
    assert distinct_points(made.sweep) == 190
    few = sweep("kind: random, count: 500", "{a: 1:20:1, b: 1:20:1}", "where: a < b")
    assert len(make_drawer(few, [], []).draw(500)) == 190


def test_a_latin_hypercube_draws_from_each_part_once() -> None:
    drawn = make_drawer(sweep("kind: lhs, count: 50", "{x: '0.0:1.0', z: log:1:1024}"), [], []).draw(50)
    assert sorted(int(float(str(one["x"])) * 50) for one in drawn) == list(range(50))
    assert sorted(int(math.log2(float(str(one["z"]))) * 5) for one in drawn) == list(range(50))


def test_a_sobol_sequence_is_even() -> None:
    drawn = make_drawer(sweep("kind: sobol, count: 64", "{x: '0.0:1.0', y: '0.0:1.0'}"), [], []).draw(64)
    cells = {(int(float(str(one["x"])) * 8), int(float(str(one["y"])) * 8)) for one in drawn}
    assert len(cells) == 64
