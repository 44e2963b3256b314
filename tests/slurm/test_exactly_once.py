"""An attempt runs once, and is not given up while it may run: whatever is killed, restarted, requeued or forgotten."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.conftest import Served

Project = Callable[[str], Path]

RUNS_ONCE = 'echo "$SLURM_JOB_ID" >> "$RACKSACK_RUNS"; sleep 0.5\n'


def in_place_of_sbatch(folder: Path, text: str) -> str:
    """A PATH on which sbatch is a script; `sbatch "$@"` in it is the real one."""
    folder.mkdir()
    real = subprocess.run(["sh", "-c", "command -v sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "sbatch").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\n' + text.replace("REAL", real)
    )
    (folder / "sbatch").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def launch(served: Served, project: Project, tmp_path: Path, text: str = RUNS_ONCE, **more: object) -> Path:
    """Launch attempt 1.1, whether or not an answer comes; the file into which it writes when it runs."""
    digest = served.serve.project(project(text))
    runs = tmp_path / "runs"
    one = served.order("1.1", digest, "main.sh", env={"RACKSACK_RUNS": str(runs)}, **more)
    served.serve.send(f'{{"id": "x", "op": "launch", "orders": [{json.dumps(one)}]}}\n'.encode())
    return runs


def test_an_agent_that_is_killed_after_sbatch_finds_the_job_again(
    served: Served, project: Project, tmp_path: Path, slurm: Cluster
) -> None:
    served.close()
    path = in_place_of_sbatch(tmp_path / "bin", 'REAL "$@" > /dev/null; touch "$HOME/sent"; sleep 600\n')
    served.start(PATH=path, HOME=str(tmp_path))
    before = set(slurm.squeue())
    runs = launch(served, project, tmp_path)
    wait_for((tmp_path / "sent").exists, "sbatch to have done its work")
    served.serve.kill()
    served.start()
    assert served.serve.ended("1.1")["outcome"] == "done"
    assert len(runs.read_text().split()) == 1
    assert len(set(slurm.squeue()) - before) == 1


def test_an_agent_that_is_killed_before_sbatch_submits_it(
    served: Served, project: Project, tmp_path: Path, slurm: Cluster
) -> None:
    served.close()
    served.start(PATH=in_place_of_sbatch(tmp_path / "bin", 'touch "$HOME/called"; sleep 600\n'), HOME=str(tmp_path))
    before = set(slurm.squeue())
    runs = launch(served, project, tmp_path)
    wait_for((tmp_path / "called").exists, "sbatch to be called")
    served.serve.kill()
    served.start()
    assert served.serve.ended("1.1")["outcome"] == "done"
    assert len(runs.read_text().split()) == 1
    assert len(set(slurm.squeue()) - before) == 1


def test_what_is_submitted_twice_runs_once(served: Served, project: Project, tmp_path: Path, slurm: Cluster) -> None:
    served.close()
    path = in_place_of_sbatch(
        tmp_path / "bin", 'cat > "$HOME/script"; REAL "$@" < "$HOME/script"; REAL "$@" < "$HOME/script"\n'
    )
    served.start(PATH=path, HOME=str(tmp_path))
    before = set(slurm.squeue())
    runs = launch(served, project, tmp_path)
    assert served.serve.ended("1.1")["outcome"] == "done"
    assert len(set(slurm.squeue()) - before) == 2
    wait_for(lambda: not slurm.living(), "the end of the second job")
    assert len(runs.read_text().split()) == 1


def test_a_requeue_by_hand_ends_the_attempt(served: Served, project: Project, tmp_path: Path, slurm: Cluster) -> None:
    runs = launch(served, project, tmp_path, RUNS_ONCE + "sleep 60\n")
    served.serve.running("1.1")
    wait_for(runs.exists, "its first line")
    number = str(served.job("1.1"))
    slurm.run("scontrol", "update", f"JobId={number}", "Requeue=1")
    slurm.run("scontrol", "requeue", number)
    report = served.serve.ended("1.1")
    assert (report["outcome"], report["at_fault"], report["reason"]) == (
        "lost", "node", "Slurm requeued its job",
    )  # fmt: skip
    wait_for(lambda: number not in slurm.living(), "the requeued job to be cancelled")
    assert len(runs.read_text().split()) == 1


def test_a_node_that_fails_loses_its_attempt(served: Served, project: Project, tmp_path: Path, slurm: Cluster) -> None:
    launch(served, project, tmp_path, "sleep 60\n", slurm={"options": ["--nodelist=n2"]})
    served.serve.running("1.1")
    slurm.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    report = served.serve.ended("1.1")
    assert (report["outcome"], report["at_fault"]) == ("lost", "node")
    assert "failed" in report["reason"]
    wait_for(slurm.answers, "the node to come back")


def test_while_slurmctld_is_away_nothing_is_concluded(
    served: Served, project: Project, tmp_path: Path, slurm: Cluster
) -> None:
    runs = launch(served, project, tmp_path, RUNS_ONCE + 'while [ ! -e "$RACKSACK_RUNS.go" ]; do sleep 0.1; done\n')
    served.serve.running("1.1")
    slurm.stop("slurmctld")
    try:
        served.serve.call(
            "launch", orders=[served.order("2.1", served.serve.project(project("echo later\n")), "main.sh")]
        )
        wait_for(lambda: "does not answer" in _why(served, "2.1"), "the agent to notice")
        assert served.serve.reports["1.1"]["state"] == "running"
    finally:
        slurm.start("slurmctld")
    wait_for(slurm.answers, "slurmctld")
    Path(f"{runs}.go").touch()
    assert served.serve.ended("1.1")["outcome"] == "done", served.serve.reports["1.1"]
    assert served.serve.ended("2.1")["outcome"] == "done"
    assert len(runs.read_text().split()) == 1


def _why(served: Served, attempt: str) -> str:
    reports = {one["attempt"]: one for one in served.serve.call("reports")}
    return str(reports[attempt].get("reason", ""))


def test_a_job_that_slurm_forgets_is_lost_only_after_a_while(
    served: Served, project: Project, tmp_path: Path, slurm: Cluster
) -> None:
    launch(served, project, tmp_path, "sleep 60\n", slurm={"options": ["--begin=now+1hour"]})
    served.serve.wait(lambda: "BeginTime" in served.serve.reports.get("1.1", {}).get("reason", ""))
    slurm.run("scancel", str(served.job("1.1")))
    slurm.stop("slurmctld")
    for name in ("job_state", "job_state.old"):
        (slurm.folder / "state" / name).unlink(missing_ok=True)
    slurm.start("slurmctld")
    report = served.serve.ended("1.1")
    assert (report["outcome"], report["at_fault"]) in (("lost", "node"), ("cancelled", "job"))
    assert "Slurm" in report["reason"]


def test_batch_jobs_of_removed_attempts_are_cancelled(
    served: Served, project: Project, tmp_path: Path, slurm: Cluster
) -> None:
    launch(served, project, tmp_path, "sleep 60\n", slurm={"options": ["--begin=now+1hour"]})
    served.serve.wait(lambda: "BeginTime" in served.serve.reports.get("1.1", {}).get("reason", ""))
    number = str(served.job("1.1"))
    (served.home / "attempts" / "1.1").rename(tmp_path / "taken-away")
    wait_for(lambda: number not in slurm.living(), "its job to be cancelled")
