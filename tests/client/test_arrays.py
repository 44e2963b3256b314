"""Arrays in lists and in commands, long queues, and why a job failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.arrays import indices_text
from racksack.ends import explained, own_code
from racksack.views import JobDetails


@pytest.fixture
def array(cli: Cli, controller: StandIn, project: Path) -> StandIn:
    """Jobs 1 to 6, an array of the indices 0-3, 7, 9 of which 2 runs and 3 is done."""
    ended = cli("submit", project, "main.py", "-a", "0-3,7,9", "-q")
    assert ended.code == 0, ended.err
    assert "(main): 6 jobs, each 1 CPU" in ended.out
    controller.jobs[3] |= {"state": "running", "node": "r1"}
    controller.jobs[4] |= {"state": "done"}
    return controller


def test_an_array_is_folded(cli: Cli, array: StandIn) -> None:
    array.add_job("other")
    rows = [line.split() for line in cli("racksack", "status").out.splitlines()]
    assert [row[0] for row in rows[1:] if row] == ["1[0-1,7,9]", "1[2]", "1[3]", "7", "no"]
    assert "x4" in rows[1]
    expanded = cli("racksack", "status", "--expand").out
    assert all(f"1[{index}]" in expanded for index in (0, 1, 2, 3, 7, 9))
    assert "Job 3, 1[2] (main)" in cli("racksack", "status", "3").out


@pytest.mark.parametrize(
    ("word", "jobs"),
    [("1[2]", [3]), ("1_2", [3]), ("1[0-1,9]", [1, 2, 6]), ("1[*]", [1, 2, 3, 4, 5, 6]), ("1[]", [1, 2, 3, 4, 5, 6])],
)
def test_elements_are_named_everywhere(cli: Cli, array: StandIn, word: str, jobs: list[int]) -> None:
    assert cli("racksack", "hold", word).code == 0
    assert [path for path, _ in array.posted] == [f"jobs/{number}/hold" for number in jobs]


@pytest.mark.parametrize(
    ("word", "code", "sentence"),
    [("1[5]", 3, "array 1 has no job 5; it has 1[0-3,7,9]"), ("1[a]", 3, "there is no job"), ("1[3-1]", 2, "write 1["),
     ("2[0]", 3, "not the first of an array"), ("99[0]", 3, "not the first of an array")],
)  # fmt: skip
def test_elements_that_there_are_not(cli: Cli, array: StandIn, word: str, code: int, sentence: str) -> None:
    ended = cli("racksack", "hold", word)
    assert ended.code == code
    assert sentence in ended.err
    assert not array.posted


def test_the_folder_says_which_element(cli: Cli, array: StandIn, tmp_path: Path) -> None:
    array.jobs[3]["state"] = "running"
    array.finish(3)
    assert cli("fetch-results", "1[2]", "-o", tmp_path / "out").code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1_2-main"]


def test_nothing_is_cut_in_silence(cli: Cli, controller: StandIn) -> None:
    for _ in range(30):
        controller.add_job()
    controller.status_jobs_max = 10
    assert sum("QUEUED" in line for line in cli("racksack", "status").out.splitlines()) == 30
    assert len(cli("racksack", "status", "--json").json["jobs"]) == 30


def test_why_it_failed_is_its_last_line(cli: Cli, controller: StandIn) -> None:
    number = controller.add_job("boom", "running")
    controller.finish(number, "failed", exit_code=1, outcome_reason="exit code 1")
    controller.logs[number, "stderr"] = b"Traceback ...\n\rhalf\rModuleNotFoundError: No module named 'nope'\n\n"
    assert "stderr    ModuleNotFoundError: No module named 'nope'" in cli("racksack", "status", "1").out
    assert "job 1 (boom) failed: exit code 1\n" in cli("racksack", "wait", "1").err
    assert "last line of stderr: ModuleNotFoundError" in cli("racksack", "wait", "1").err


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("exit code 137", "exit code 137 (128 + SIGKILL)"),
        ("exit code 141", "exit code 141 (128 + SIGPIPE)"),
        ("exit code 127", "exit code 127 (a command was not found)"),
        ("exit code 3", "exit code 3"),
        ("killed by SIGTERM", "killed by SIGTERM"),
    ],
)
def test_codes_are_explained(reason: str, told: str) -> None:
    assert explained(reason) == told


@pytest.mark.parametrize("number", [9, "KILL", "SIGKILL"])
def test_a_signal_is_a_code_as_in_a_shell(number: object) -> None:
    assert own_code(JobDetails(id=1, name="x", attempts=[{"signal": number}])) == 137
    assert own_code(JobDetails(id=1, name="x", attempts=[{"signal": None}])) is None


def test_indices() -> None:
    assert indices_text([3, 0, 1, 2, 7]) == "0-3,7"
