"""A space of a few hundred bytes can name more points than there are atoms: reading and drawing from it has an end."""

import time
import tracemalloc

import pytest

from racksack_controller.sweeps.search import samplers
from racksack_controller.sweeps.search.numbering import numbered
from racksack_controller.sweeps.search.samplers import SearchError, Spread
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.sweep.spec import Params, SweepSpec

CPU_S_MAX = 10.0  # of this process; what these texts took before there were bounds was minutes


def file_of(sweep: str, job: str = "") -> str:
    return f"project: up1\nentrypoint: m.py\n{job}sweep: {{function: f, {sweep}}}\n"


def spec_of(sweep: str) -> SweepSpec:
    found = parse_job(file_of(sweep)).sweep
    assert found is not None
    return found


def params(count: int, values: str) -> str:
    return "params: {" + ", ".join(f"p{at}: '{values}'" for at in range(count)) + "}"


ATTACKS = {
    "many logarithmic axes": (file_of(params(99, "log:1e-5:1e-1:99999")), "all parameters together have at most"),
    "many long axes": (file_of(params(99, "0:99999:1")), "all parameters together have at most"),
    "far too many parameters": (file_of(params(5000, "0:99999:1")), "there are 5000 parameters"),
    "a progression without end": (file_of(params(1, "0:1e299:1")), "far too many values"),
    "a tiny step": (file_of(params(1, "0:1:1e-299")), "far too many values"),
    "a million words": (file_of(f"params: {{a: '{'x,' * 300_000}'}}"), "more than 100000"),
    "half a million metrics": (file_of(f"params: {{a: 1:2:1}}, metric: '{'m,' * 400_000}'"), "lists more than 20000"),
    "many different metrics": (
        file_of("params: {a: 1:2:1}, metric: [" + ", ".join(f"m{at}" for at in range(15_000)) + "]"),
        "more than 20 metrics",
    ),
    "an array named again and again": (
        "project: up1\nentrypoint: m.py\narray: '" + "0-99999," * 100_000 + "0'\n",
        "many of them again",
    ),
    "nodes and as many excluded": (
        "project: up1\nentrypoint: m.py\n"
        + "nodes: [" + ", ".join(f"a{at}" for at in range(9000)) + "]\n"
        + "exclude: [" + ", ".join(f"b{at}" for at in range(9000)) + ", a1]\n",
        "a1 is asked for and excluded",
    ),
    "thousands of unknown keys": (
        "project: up1\nentrypoint: m.py\n" + "".join(f"entrypoin{at}x{'y' * 40}: 1\n" for at in range(9000)),
        "is not a known key",
    ),
    "unknown keys in many mappings": (
        file_of("jobs: [" + ", ".join("{job_idd: a, scrpt: b, agrs: c}" for _ in range(2500)) + "]"),
        "is not a known key",
    ),
    "a hypercube of gigabytes": (
        file_of(params(100, "0.0:1.0") + ", search: {kind: lhs, count: 1000000}"),
        "lhs keeps its points in memory",
    ),
    "a search that remembers gigabytes": (
        file_of(params(100, "0.0:1.0") + ", search: {kind: ga, count: 1000000}"),
        "ga keeps its points in memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_reading_costs_little_whatever_is_written(name: str) -> None:
    text, words = ATTACKS[name]
    assert len(text) < 1024**2
    tracemalloc.start()
    began_s = time.process_time()
    try:
        with pytest.raises(JobFileError, match=words):
            parse_job(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began_s < CPU_S_MAX
    assert peak < 200 * 2**20


def test_only_the_first_unknown_keys_get_a_hint() -> None:
    text = "project: up1\nentrypoint: m.py\n" + "".join(f"retrie{at}: 1\n" for at in range(40))
    with pytest.raises(JobFileError) as error:
        parse_job(text)
    hinted = [problem for problem in error.value.problems if "did you mean retries" in problem.sentence]
    assert len(hinted) == 20
    assert len(error.value.problems) == 40


LARGE = params(6, "1:50:1")


def key(params: Params) -> tuple[object, ...]:
    return tuple(params.items())


def test_random_points_of_a_large_grid_are_drawn_and_not_counted() -> None:
    spec = spec_of(LARGE + ", where: 'p0 < p1', search: {kind: random, count: 500, seed: 3}")
    assert numbered(spec).size == 500
    drawn = Spread(spec, 0).draw(500)
    assert len({key(one) for one in drawn}) == 500
    assert all(int(str(one["p0"])) < int(str(one["p1"])) for one in drawn)
    again = Spread(spec, 123)
    assert [*again.draw(100), *again.draw(500)] == drawn[123:]


def test_a_large_grid_with_conditions_repeats_no_point() -> None:
    text = (
        "params: {kind: [a, b], k: {values: '1:4000000:1000', if: \"kind == 'a'\"}, x: 1:1500:1}, "
        "search: {kind: random, count: 3000, seed: 1}"
    )
    drawn = Spread(spec_of(text), 0).draw(3000)
    assert len({key(one) for one in drawn}) == 3000
    assert {("k" in one) == (one["kind"] == "a") for one in drawn} == {True}


@pytest.mark.parametrize("kind", ["random", "lhs", "sobol", "tpe", "cmaes", "ga"])
@pytest.mark.parametrize("space", [LARGE, "params: {p0: '0.0:1.0', p1: 1:50:1}"])
def test_a_space_with_nothing_in_it_is_refused_when_it_is_submitted(kind: str, space: str) -> None:
    spec = spec_of(f"{space}, where: 'p0 > p1 + 60', search: {{kind: {kind}, count: 5}}")
    with pytest.raises(ValueError, match="`where` left out 1000000 drawn points in a row"):
        numbered(spec)


def test_what_was_found_before_nothing_more_is_found_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "MISSES_MAX", 50_000)
    monkeypatch.setattr(samplers, "COUNTED_MAX", 1000)
    spec = spec_of(params(3, "1:20:1") + ", where: 'p0 + p1 + p2 <= 5', search: {kind: random, count: 500}")
    search, drawn = Spread(spec, 0), list[Params]()
    while len(drawn) < 10:
        drawn += search.draw(500)
    assert len({key(one) for one in drawn}) == len(drawn) == 10
    with pytest.raises(SearchError, match=r"after 10 points .* or write --count 10"):
        search.draw(500)


def test_mixed_values_are_asked_one_by_one_where_columns_have_no_answer() -> None:
    text = "params: {n: [1, 5, auto], x: '0.0:1.0'}, where: 'n == \"auto\" or n > 3', search: {kind: random, count: 50}"
    drawn = Spread(spec_of(text), 0).draw(50)
    assert {one["n"] for one in drawn} == {5, "auto"}


def test_an_unconstrained_grid_beyond_64_bits_can_be_drawn_from() -> None:
    spec = spec_of(params(100, "1:500:1") + ", search: {kind: random, count: 20}")
    assert numbered(spec).size == 20
    assert len(Spread(spec, 0).draw(20)) == 20
