"""What a job file may say and what becomes of it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from racksack_jobspecs.array import expand
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.resources import GpuRequest, ResourceRequest
from racksack_jobspecs.spec import ArraySpec, Dependency, Environment, JobSpec
from racksack_jobspecs.write import job_file

EXAMPLES = sorted((Path(__file__).parents[2] / "jobspecs" / "examples").glob("*.yaml"))
LEAST = "project: up1\nentrypoint: train/main.py\n"


def spec_of(rest: str) -> JobSpec:
    return parse_job(LEAST + rest)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    spec = parse_job(path.read_bytes())
    assert parse_job(job_file(spec)) == spec


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


def test_the_least() -> None:
    assert parse_job(LEAST) == JobSpec(name="main", project="up1", entrypoint="train/main.py")


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("2", GpuRequest(2)),
        ("0", None),
        ("0.5", GpuRequest(0.5)),
        ('"rtx3090:2"', GpuRequest(2, "rtx3090")),
        ("rtx 3090:1", GpuRequest(1, "rtx 3090")),
        ("RX 6600", GpuRequest(1, "RX 6600")),
        ("{model: RX 6600, vram: 8G}", GpuRequest(1, "RX 6600", 8 << 30)),
        ("{share: 0.25}", GpuRequest(0.25)),
        ("{count: 0}", None),
    ],
)
def test_gpus(text: str, gpus: GpuRequest | None) -> None:
    assert spec_of(f"gpus: {text}").resources == ResourceRequest(gpus=gpus)


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ('"0-3%2"', ArraySpec((0, 1, 2, 3), 2)),
        ("1,3,5-7", ArraySpec((1, 3, 5, 6, 7))),
        ("0-8:4", ArraySpec((0, 4, 8))),
        ("[5, 1, 1]", ArraySpec((1, 5))),
        ("7", ArraySpec((7,))),
        ("{indices: 0-1, max_running: 1}", ArraySpec((0, 1), 1)),
    ],
)
def test_arrays(text: str, array: ArraySpec) -> None:
    assert spec_of(f"array: {text}").array == array


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("environment: none", Environment("none")),
        ("requirements: deploy/req.txt", Environment("requirements", "deploy/req.txt")),
        ("requirements: r.txt\nenvironment: requirements\npython: 3.10", Environment("requirements", "r.txt", "3.10")),
        ("environment: {kind: lock, python: 3.12.4}", Environment("lock", None, "3.12.4")),
        ("python: 3.10", Environment(python="3.10")),
    ],
)
def test_environments(text: str, environment: Environment) -> None:
    assert spec_of(text).environment == environment


def test_scalars_keep_what_was_written() -> None:
    spec = spec_of("args: [010, 1e3, yes, 3.10, 0x1F, 2026-01-01]\nenv: {A: on, B: 1_000}\nname: 007")
    assert spec.args == ("010", "1e3", "yes", "3.10", "0x1F", "2026-01-01")
    assert spec.env == {"A": "on", "B": "1_000"}
    assert spec.name == "007"


def test_after_names_jobs_and_conditions() -> None:
    spec = spec_of('after: [41, "any:42", "afterok:train", "afterany:x:y"]')
    assert spec.after == (
        Dependency("41"),
        Dependency("42", "any"),
        Dependency("train"),
        Dependency("x:y", "any"),
    )
    assert spec_of("after: 41, any:42").after == (Dependency("41"), Dependency("42", "any"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15[3]", (Dependency("15[3]"),)),
        ("afternotok:15_3", (Dependency("15[3]", "notok"),)),
        ("afterok:15:16[2]:17", (Dependency("15"), Dependency("16[2]"), Dependency("17"))),
        ("AFTERANY:15", (Dependency("15", "any"),)),
        ("singleton", (Dependency("", "singleton"),)),
        ("afterok:singleton", (Dependency("singleton"),)),
    ],
)
def test_dependencies_as_slurm_writes_them(text: str, expected: tuple[Dependency, ...]) -> None:
    spec = spec_of(f"after: {text!r}")
    assert spec.after == expected
    assert parse_job(job_file(spec)).after == expected


def test_aftercorr_is_for_arrays() -> None:
    assert spec_of("after: aftercorr:15\narray: 0-3").after == (Dependency("15", "corr"),)


def test_one_value_stands_for_a_list_of_one() -> None:
    spec = spec_of("node: r1\noutputs: ./out/*.csv\nargs: -v\nlabels: epyc, nvme\nretry_on: oom")
    assert (spec.nodes, spec.outputs, spec.args) == (("r1",), ("out/*.csv",), ("-v",))
    assert spec.retries == 3
    assert (spec.labels, spec.retry_on) == (("epyc", "nvme"), ("oom",))


def test_anchors_and_merges_within_reason() -> None:
    spec = spec_of("env: {<<: {A: 1, B: 2}, A: 3}\nargs: [&x --quick, *x]")
    assert spec.env == {"A": "3", "B": "2"}
    assert spec.args == ("--quick", "--quick")


def test_times_with_a_zone() -> None:
    assert spec_of("begin: 1970-01-02T01:00:00+01:00").begin_at_s == 86400
    assert spec_of("begin: 1970-01-02 00:00:00Z").begin_at_s == 86400
    assert spec_of("begin: 12.5").begin_at_s == 12.5


def test_exit_codes_that_are_retried() -> None:
    spec = spec_of("retry_on: 'exit:29,31,oom'\nno_retry_on: exit:2\nretry_delay: 5m")
    assert (spec.retry_on, spec.no_retry_on) == (("exit:29", "exit:31", "oom"), ("exit:2",))
    assert (spec.retries, spec.retry_delay_s) == (3, 300.0)
    assert spec_of("retry_on: [exit:7]\nretries: 0").retries == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("retry_on: 29", "29 is not a failure; write exit:29 for an exit code"),
        ("retry_on: [oom, 29]", "29 is not a failure; write exit:29"),
        ("retry_on: exit:300", "exit:300 is not the exit code of a failure; write a number from 1 to 255"),
        ("retry_on: exit:0", "exit:0 is not the exit code of a failure"),
        ("no_retry_on: crash", "crash is not a failure; write exit, oom, timeout or exit:CODE such as exit:29"),
    ],
)
def test_failures_that_are_none(text: str, sentence: str) -> None:
    with pytest.raises(JobFileError) as caught:
        spec_of(text)
    assert sentence in str(caught.value.problems[0])


@pytest.mark.parametrize(
    "name", ["a'b\"c", "$(reboot)", "<script>alert(1)</script>", "a;b|c&d", "émile 你好", "-rf", "*"]
)
def test_names_may_hold_anything_visible(name: str) -> None:
    spec = parse_job(job_file(JobSpec(name=name, project="up1", entrypoint="m.py")))
    assert spec.name == name


def test_an_array_becomes_one_spec_an_index() -> None:
    jobs = list(expand(spec_of('array: "1-3%2"\nenv: {A: b}')))
    assert [job.array for job in jobs] == [ArraySpec((index,), 2) for index in (1, 2, 3)]
    assert [job.env for job in jobs] == [{"A": "b", "RACKSACK_ARRAY_INDEX": str(index)} for index in (1, 2, 3)]
    assert {job.args for job in jobs} == {()}
    assert list(expand(jobs[0])) == [jobs[0]]
    assert list(expand(parse_job(LEAST))) == [parse_job(LEAST)]


def test_an_expanded_job_can_be_written_and_submitted_again() -> None:
    job = next(expand(spec_of("array: 4-9")))
    again = list(expand(parse_job(job_file(job))))
    assert again == [job]


def test_problems_come_in_the_order_of_the_file() -> None:
    with pytest.raises(JobFileError) as caught:
        parse_job("project: a\nram: 1\ncpus: x\nentrypoint: /b\n")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]


def test_it_is_quick() -> None:
    """About 0.2 ms here; the bound only catches a change of kind."""
    text = EXAMPLES[0].read_bytes()
    began_s = time.thread_time()
    for _ in range(200):
        parse_job(text)
    assert (time.thread_time() - began_s) / 200 < 0.01


def test_writing_imports_no_parser() -> None:
    """The client's start-up time is somebody's waiting time."""
    program = (
        "import sys; import racksack_jobspecs.write; print(sorted({'yaml', 'json', 'difflib'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "warn"),
    [
        ("120s", (120.0, "USR1")),
        ("2m:TERM", (120.0, "TERM")),
        ("0:02:00", (120.0, "USR1")),
        ("0:02:00:sigusr2", (120.0, "USR2")),
        ("USR1@120", (120.0, "USR1")),  # as Slurm writes it
        ("B:SIGINT@60", (60.0, "INT")),
    ],
)
def test_warnings(text: str, warn: tuple[float, str]) -> None:
    spec = spec_of(f"warn: {text!r}\ngrace: 2m\nresubmit_on: 85,86\ninteractive: yes")
    assert (spec.warn_s, spec.warn_signal) == warn
    assert (spec.grace_s, spec.resubmit_on, spec.interactive) == (120.0, (85, 86), True)
    assert parse_job(job_file(spec)) == spec
