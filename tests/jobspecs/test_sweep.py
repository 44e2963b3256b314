"""The `sweep:` key: what its values mean, every mistake at once, and written files that are read back."""

import json
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep import axes
from racksack_jobspecs.sweep.spec import Axis, Domain, Metric, Script, SweepSpec, params_of, point_numbers
from racksack_jobspecs.write import job_file

HEAD = "project: up1\nentrypoint: backtest.py\n"


def sweep(text: str, head: str = HEAD) -> SweepSpec:
    spec = parse_job(f"{head}sweep: {text}\n")
    assert parse_job(job_file(spec)) == spec, "a written file is read back"
    assert msgspec.json.decode(msgspec.json.encode(spec), type=JobSpec) == spec, "a stored spec is read back"
    assert spec.sweep is not None
    return spec.sweep


def problems(text: str, head: str = HEAD) -> str:
    with pytest.raises(JobFileError) as caught:
        parse_job(f"{head}sweep: {text}\n")
    return "\n".join(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("20:80:20", (20, 40, 60, 80)),
        ("20:79:20", (20, 40, 60)),
        ("0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("1:0:-0.25", (1.0, 0.75, 0.5, 0.25, 0.0)),
        ("0:3", (0, 1, 2, 3)),
        ("1e-3:3e-3:1e-3", (0.001, 0.002, 0.003)),
        ("a,b, c", ("a", "b", "c")),
        ("true,false", (True, False)),
        ("1,1.0,'1',true,none", (1, 1.0, "1", True, None)),
        ("'a,b',c", ("a,b", "c")),
        ("log:1e-5:1e-1:5", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
        ("lin:0:1:5", (0.0, 0.25, 0.5, 0.75, 1.0)),
        ("7", (7,)),
        ("2024-01-01", ("2024-01-01",)),
    ],
)
def test_values(text: str, values: tuple[Any, ...]) -> None:
    found = axes.parameter("x", text)
    assert isinstance(found, Axis)
    assert list(map(repr, found.values)) == list(map(repr, values))


@settings(deadline=None)
@given(st.decimals(-50, 50, places=3), st.decimals("0.001", "5", places=3), st.integers(0, 200))
def test_steps_are_exact_and_include_the_end(start: Any, step: Any, count: int) -> None:
    stop = start + step * count
    found = axes.parameter("x", f"{start}:{stop}:{step}")
    assert isinstance(found, Axis)
    exact = [Fraction(start) + Fraction(step) * index for index in range(count + 1)]
    assert list(found.values) == [float(value) for value in exact]


def test_a_grid_is_numbered_with_the_last_axis_fastest() -> None:
    spec = sweep("{function: f, params: {a: 1:3:1, b: [x, y]}}")
    assert point_numbers(spec) == 6
    assert [params_of(spec, point) for point in (0, 1, 2, 5)] == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 3, "b": "y"},
    ]
    with pytest.raises(IndexError):
        params_of(spec, 6)


def test_a_condition_takes_a_parameter_away() -> None:
    spec = sweep("{params: {algo: [knn, svm], k: {values: 1:2:1, if: \"algo == 'knn'\"}, c: \"1,2 if algo == 'svm'\"}}")
    assert params_of(spec, 0) == {"algo": "knn", "k": 1}
    assert params_of(spec, 5) == {"algo": "svm", "c": 2}


def test_everything_of_a_sweep_is_read_and_written() -> None:
    spec = sweep(
        "{function: f, params: {a: 0.5:1.5:0.25, m: [\"'007'\", it's, null, yes]}, where: [a < 1, m != 'x'], "
        "fixed: {data: p.csv, n: 3}, metric: [sharpe:max, 'max dd:min'], point_timeout: 120s, retries: 3, "
        "backoff: 10s, max_fails: 2.5%, chunk: {target: 60s, min: 5, max: 50}, max_runners: 3, "
        "slots: '4,r1=12', stuck_after: 5m, "
        'control: {top: 10, args: {data: q.csv}, env: {PERIOD: "2024"}}, notify: [telegram, mail]}',
        f"{HEAD}stage_in_ram: [prices.bin]\n",
    )
    assert spec.target.file == "backtest.py"
    assert spec.target.fixed == {"data": "p.csv", "n": 3}
    assert spec.where == "(a < 1) and (m != 'x')"
    assert spec.metrics == (Metric("sharpe", "max"), Metric("max dd", "min"))
    assert spec.fails_share_max == 0.025
    assert (spec.slots, spec.slots_on) == (4, {"r1": 12})
    assert spec.ramdisk == ("prices.bin",)


@pytest.mark.parametrize("written", ["'r1=2,r2=3'", "{r1: 2, r2: 3}"])
def test_workers_of_some_nodes(written: str) -> None:
    spec = sweep(f"{{params: {{a: 1:3}}, slots: {written}}}")
    assert (spec.slots, spec.slots_on) == (None, {"r1": 2, "r2": 3})


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("'3,4'", "two numbers for all nodes"),
        ("'r1=3,r1=4'", "two numbers for r1"),
        ("'-x=3'", "-x is not a node's name"),
        ("'r1=0'", "cannot be a number of workers"),
        ("{r1: many}", "cannot be a number of workers"),
    ],
)
def test_workers_that_are_none(written: str, sentence: str) -> None:
    assert sentence in problems(f"{{params: {{a: 1:3}}, slots: {written}}}")


def test_a_program_has_the_words_of_the_job() -> None:
    spec = sweep("{params: {lr: '0.1,0.01'}}", f"{HEAD}args: [--rate, '{{lr}}']\n")
    assert spec.target.kind == "program"
    assert spec.target.argv == ("backtest.py", "--rate", "{lr}")


def test_a_range_is_cut_into_parts() -> None:
    spec = sweep('{function: f, range: "seed=0:4294967296"}')
    assert point_numbers(spec) == 65536
    assert params_of(spec, 65535) == {"start": 4294901760, "end": 4294967296}
    odd = sweep('{function: f, range: "seed=5:12:3"}')
    assert [params_of(odd, point) for point in range(point_numbers(odd))] == [
        {"start": 5, "end": 8},
        {"start": 8, "end": 11},
        {"start": 11, "end": 12},
    ]


def test_jobs_as_a_list_as_json_and_in_groups() -> None:
    listed = sweep("{jobs: [{job_id: a, script: t.py, args: [--lr, 0.1], gpu_id: 1}, {job_id: b}]}")
    assert listed.scripts == (
        Script(job_id="a", script="t.py", args=("--lr", "0.1"), gpu_id=1),
        Script(job_id="b", script="backtest.py"),
    )
    grouped = {
        "groups": {"momentum": {"args": {"start": "2024-01-01", "n": 3}}, "mean": [{"id": 1, "args": "--x 'a b'"}]}
    }
    spec = sweep(f"{{jobs: {json.dumps(json.dumps(grouped))}}}")
    assert spec.scripts == (
        Script(job_id="momentum", script="backtest.py", args=("--start", "2024-01-01", "--n", "3")),
        Script(job_id="mean/1", script="backtest.py", args=("--x", "a b")),
    )
    assert point_numbers(spec) == 2


def test_a_search_has_intervals() -> None:
    spec = sweep(
        "{function: f, params: {lr: log:1e-5:1e-1, n: 1:9:2, x: '0.5:1.5'}, search: {kind: tpe, count: 50, seed: 7}}"
    )
    assert spec.domains == (Domain(name="lr", low=1e-5, high=0.1, is_log=True), Domain(name="x", low=0.5, high=1.5))
    assert spec.axes[0].values == (1, 3, 5, 7, 9)
    assert point_numbers(spec) == 50


def test_long_axes_stay_short_text() -> None:
    spec = sweep("{function: f, params: {a: 0:99999:1, b: log:1:2:900}}")
    assert len(job_file(JobSpec(name="x", project="p", entrypoint="m.py", sweep=spec))) < 20_000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "params: is missing"),
        ("{params: {a: 1:0:1}}", "sweep.params.a: 1:0:1 never gets from 1 to 0"),
        ("{params: {a: 1:5:0}}", "the step is 0"),
        ("{params: {a: 1:2:3:4}}", "1:2:3:4 is not a range"),
        ("{params: {a: log:0:1:3}}", "has no logarithm"),
        ("{params: {a: log:1:10:1}}", "below 2"),
        ("{params: {a: 0:1:1e-9}}", "this makes 1000000001 values"),
        ("{params: {a: 0.5:1.5}}", "is an interval, of which there is no grid"),
        ("{params: {a-b: 1}}", "is not a parameter's name"),
        ("{params: {a: 0:999:1, b: 0:999:1, c: 0:999:1}}", "make 1000000000 combinations"),
        ("{params: {a: 1,2}, where: b > 1}", "b in b > 1 is not known"),
        ("{params: {a: 1,2}, where: 1 < 2}", "names no parameter"),
        ("{params: {a: 1 if b > 1, b: 1}}", "a condition may name parameters before it"),
        ("{params: {a: 1,2}, range: x=1:2}", "keep one of params or range"),
        ("{function: f, jobs: [{job_id: a}]}", "has no use with jobs"),
        ("{jobs: []}", "names no job"),
        ('{jobs: \'[{"script": "/bin/rm"}]\'}', "is not a path inside the project"),
        ("{params: {a: 1,2}, search: tpe}", "tpe draws points; say how many"),
        ("{params: {a: 1,2}, search: {kind: grid, count: 3}}", "a grid has no count"),
        ("{params: {a: 'x,y'}, search: {kind: cmaes, count: 3}}", "needs a parameter that is a range of numbers"),
        ("{params: {a: 1,2}, metric: a:up}", "is not a metric"),
        ("{params: {a: 1,2}, max_fails: 101%}", "more than all points"),
        ("{params: {a: 1,2}, chunk: {min: 9, max: 3}}", "min is above max"),
        ("{params: {a: 1,2}, timeout: 3s}", "did you mean point_timeout?"),
        ("{function: f, params: {a: 1,2}, fixed: {a: 3}}", "is a parameter too"),
        ("{range: 5:5}", "is empty"),
        ("{range: 0:10:0}", "has parts of 0 numbers; write a third number above zero, or none"),
        ("{params: {a: 3:1}}", "3:1 goes down; write 1:3, or 3:1:-1 for that order"),
        ("{params: {a: 1:1000000}}", "is an interval, having more than 100000 values, of which there is no grid"),
        ("{params: {a: 1,2}, where: b}", "b is not known; there are a"),
        ('{jobs: \'{"g": [{"args": ""}, {"n": 1}]}\'}', "entry 1 of the group g has n"),
        ('{jobs: \'{"g": {"n": 1}}\'}', "the group g has n"),
        ('{jobs: \'[{"args": "\\"a"}]\'}', "entry 0 of the jobs: args has a quote that is not closed"),
    ],
)
def test_mistakes(text: str, sentence: str) -> None:
    assert sentence in problems(text)


def test_a_count_that_is_wrong_is_not_missing_as_well() -> None:
    assert problems("{params: {a: [1, 2]}, search: {kind: tpe, count: 0}}").count("\n") == 0


def test_what_does_not_go_with_a_sweep() -> None:
    assert "sweep, which is many points already" in problems("{params: {a: 1,2}}", f"{HEAD}array: 0-3\n")
    assert "args: are for programs" in problems("{function: f, params: {a: 1,2}}", f"{HEAD}args: [x]\n")
    head = "project: up1\nentrypoint: run.sh\n"
    assert "entrypoint: is not a Python file" in problems("{function: f, params: {a: 1,2}}", head)


def test_every_mistake_is_named_at_once() -> None:
    found = problems("{function: 1x, params: {a: 1:0:1, b: log:0:1:2}, metric: a:up, search: tpe, bogus: 1}")
    assert found.count("\n") >= 5
