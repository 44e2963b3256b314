"""The Python API, as a script would use it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.client.stand_in import StandIn

import racksack


def test_a_job_from_submit_to_results(controller: StandIn, project: Path, tmp_path: Path) -> None:
    job = racksack.submit(
        project, "main.py", cpus=2, ram="3G", args=["--x", "1"], env={"A": "b"}, gpus={"count": 1, "vram": "8G"}
    )
    assert job.status().state == "queued"
    assert job.why() == f"job {job.id} waits for a node"
    controller.jobs[job.id]["state"] = "running"

    def end() -> None:
        controller.logs[job.id, "stdout"] = "grüße\nzwei\nohne Ende".encode()
        controller.finish(job.id, files={"model.bin": b"m"})

    threading.Timer(0.2, end).start()
    assert list(job.logs(follow=True)) == ["grüße", "zwei", "ohne Ende"]
    assert job.wait(timeout_s=20) == "done"
    folder = job.fetch(tmp_path / "out")
    assert folder == tmp_path / f"out/{job.id}-main"
    assert (folder / "model.bin").read_bytes() == b"m"
    (folder / "model.bin").write_text("changed")
    with pytest.raises(racksack.RefusedError):
        job.fetch(tmp_path / "out")
    job.fetch(tmp_path / "out", overwrite=True)


def test_errors_are_a_small_tree(controller: StandIn, project: Path) -> None:
    with pytest.raises(racksack.UsageError, match=r"^ram: "):
        racksack.submit(project, "main.py", ram="32")
    with pytest.raises(racksack.ProjectError):
        racksack.submit(project / "nowhere", "main.py")
    controller.never = "no node has it"
    with pytest.raises(racksack.NeverRunnableError):
        racksack.submit(project, "main.py")
    with pytest.raises(racksack.NotFoundError):
        racksack.job(99)
    with pytest.raises(racksack.UnreachableError):
        racksack.jobs(controller="/nowhere/spool")
    assert issubclass(racksack.UnreachableError, racksack.RacksackError)


def test_jobs_after_jobs(controller: StandIn, project: Path) -> None:
    first = racksack.submit(project, "main.py")
    second = racksack.submit(project, "main.py", after=[first, "any:1"], name="second")
    assert [job.name for job in racksack.jobs()] == ["second", "main"]
    assert racksack.job("second").id == second.id
    second.hold()
    second.release()
    second.cancel("enough")
    assert second.wait() == "cancelled"
    assert controller.posted[-1] == (f"jobs/{second.id}/cancel", {"reason": "enough"})


def test_everything_exported_exists() -> None:
    for name in racksack.__all__:
        assert getattr(racksack, name) is not None
    with pytest.raises(AttributeError):
        racksack.nothing  # noqa: B018


def test_it_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/python-api.md").read_text()
    assert not [name for name in racksack.__all__ if f"`{name}" not in text and f"racksack.{name}" not in text]


def test_an_array_is_a_sequence_of_jobs(controller: StandIn, project: Path, tmp_path: Path) -> None:
    made = racksack.submit(project, "main.py", array=range(3))
    assert isinstance(made, racksack.JobArray)
    assert [job.id for job in made] == [1, 2, 3]
    assert (len(made), made[1].id, made.id, len(made[1:])) == (3, 2, 1, 2)
    assert repr(made) == "JobArray(1, 3 jobs)"
    for number in (1, 2, 3):
        controller.jobs[number]["state"] = "running"
        controller.finish(number, "failed" if number == 2 else "done")
    assert made.wait(timeout_s=20) == ["done", "failed", "done"]
    assert [folder.name for folder in made.fetch(tmp_path / "out")] == ["1_0-main", "1_1-main", "1_2-main"]
    assert "<td>failed</td>" in made._repr_html_()


def test_values_of_python(controller: StandIn, project: Path) -> None:
    limit, begin = timedelta(minutes=90), datetime(2031, 1, 1, tzinfo=UTC)
    first = racksack.submit(project, "main.py", time_limit=limit, begin=begin, hold=True)
    racksack.submit(project, "main.py", after=[first], exclude_nodes=["r9"])
    assert controller.specs[0].time_limit_s == 5400
    assert controller.specs[0].begin_at_s == begin.timestamp()
    assert [one.job for one in controller.specs[1].after] == ["1"]
    assert controller.specs[1].exclude == ("r9",)


def test_options_that_there_are_not(controller: StandIn, project: Path) -> None:
    with pytest.raises(TypeError, match="did you mean 'time_limit'"):
        racksack.submit(project, "main.py", time_limits="1h")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"FILE\.py:FUNCTION"):
        racksack.sweep(project, lambda x: x)  # type: ignore[arg-type]


def test_a_job_in_a_notebook(controller: StandIn, project: Path) -> None:
    job = racksack.submit(project, "main.py", name="a<b")
    assert (repr(job), job.state) == ("Job(1, 'a<b', queued)", "queued")
    assert "<td>a&lt;b</td>" in job._repr_html_()
    controller.jobs[1]["state"] = "running"
    controller.finish(1, "failed", exit_code=3)
    assert job.result(timeout_s=20)["exit_code"] == 3
    job.retry()
    assert ("jobs/1/retry", {}) in controller.posted
    assert {"submit", "Job", "JobArray", "sweep"} <= set(dir(racksack))
    assert racksack.__version__
