"""The Python API, as a script would use it."""

from __future__ import annotations

import threading
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
    with pytest.raises(racksack.UsageError, match="--ram"):
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
