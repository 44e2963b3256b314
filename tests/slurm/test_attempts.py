"""Attempts as batch jobs: run, stopped, limited, and ended by Slurm in each of its ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, wait_for
from tests.slurm.conftest import Served

Project = Callable[[str], Path]


def test_it_runs_and_leaves_its_record(served: Served, project: Project) -> None:
    digest = served.serve.project(
        project('echo "on $SLURMD_NODENAME as $SLURM_JOB_ID"; echo 7 > "$RACKSACK_RETURN_DIR/x"\n')
    )
    report = served.serve.run(served.order("1.1", digest, "main.sh", cpus=2))
    assert (report["outcome"], report["exit_code"], report["output_files"]) == ("done", 0, 3)
    assert served.serve.out("1.1").split()[1].startswith("n")
    assert served.serve.out("1.1").split()[3] == str(served.job("1.1"))
    served.serve.call("remove", attempts=["1.1"])
    assert served.serve.call("reports") == []


def test_content_serves_many_attempts(served: Served, project: Project) -> None:
    digest = served.serve.project(project("echo once\n"))
    for attempt in ("1.1", "2.1", "3.1"):
        assert served.serve.run(served.order(attempt, digest, "main.sh"))["outcome"] == "done"


def test_a_failure_is_the_jobs_own(served: Served, project: Project) -> None:
    digest = served.serve.project(project("exit 3\n"))
    report = served.serve.run(served.order("1.1", digest, "main.sh"))
    assert (report["outcome"], report["exit_code"], report["at_fault"]) == ("failed", 3, "job")


def test_a_stop_reaches_what_runs(served: Served, project: Project) -> None:
    digest = served.serve.project(project("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done\n"))
    served.serve.launch(served.order("1.1", digest, "main.sh"))
    served.serve.running("1.1")
    wait_for(lambda: "up" in served.serve.out("1.1"), "its first line")
    served.serve.call("stop", attempt="1.1", reason="cancelled", grace_s=10)
    assert served.serve.ended("1.1")["outcome"] == "cancelled"
    assert "bye" in served.serve.out("1.1")


def test_a_stop_takes_what_waits_out_of_the_queue(served: Served, project: Project, slurm: Cluster) -> None:
    digest = served.serve.project(project("echo ran\n"))
    served.serve.launch(served.order("1.1", digest, "main.sh", slurm={"options": ["--begin=now+1hour"]}))
    served.serve.wait(lambda: "BeginTime" in served.serve.reports.get("1.1", {}).get("reason", ""))
    number = served.job("1.1")
    served.serve.call("stop", attempt="1.1", reason="cancelled", grace_s=10)
    assert served.serve.ended("1.1")["outcome"] == "cancelled"
    assert str(number) not in slurm.living()


def test_its_time_limit_ends_it_with_its_results(served: Served, project: Project) -> None:
    digest = served.serve.project(project('echo half > "$RACKSACK_RETURN_DIR/half"; sleep 60\n'))
    report = served.serve.run(served.order("1.1", digest, "main.sh", time_limit_s=1.0, grace_s=0.5))
    assert report["outcome"] == "timeout"
    assert served.serve.out("1.1", "half") == "half\n"


@pytest.mark.parametrize("by", ["hand", "preemption"])
def test_what_slurm_ends_says_why(served: Served, project: Project, slurm: Cluster, by: str) -> None:
    digest = served.serve.project(project("echo up; sleep 60\n"))
    where = {"partition": "low", "options": ["--nodelist=n2", "--exclusive"]}
    served.serve.launch(served.order("1.1", digest, "main.sh", slurm=where))
    served.serve.running("1.1")
    if by == "hand":
        slurm.run("scancel", str(served.job("1.1")))
    else:
        slurm.run("sbatch", "-p", "urgent", "--nodelist=n2", "--exclusive", "--output=/dev/null", "--wrap=sleep 0")
    report = served.serve.ended("1.1")
    expected = {"hand": ("cancelled", "it was cancelled in Slurm"), "preemption": ("lost", "Slurm preempted it")}
    assert (report["outcome"], report["reason"]) == expected[by]
    assert served.serve.out("1.1") == "up\n"  # what it wrote until then is there


def test_a_job_of_which_nothing_is_left_is_lost_when_slurm_says_so(served: Served, project: Project) -> None:
    ends_supervisor = """kill -9 $(grep -o '"pid": [0-9]*' ../claim.json | cut -c 8-); sleep 60\n"""
    digest = served.serve.project(project(ends_supervisor))
    report = served.serve.run(served.order("1.1", digest, "main.sh"))
    assert report["outcome"] == "lost"
    assert report["at_fault"] == "node"


def test_devices_are_asked_of_slurm(served: Served, project: Project, slurm: Cluster) -> None:
    digest = served.serve.project(project("scontrol show job $SLURM_JOB_ID | grep -i gres; echo $SLURM_GPUS_ON_NODE\n"))
    devices = [{"uuid": f"slurm-{at}", "index": at, "vendor": "nvidia"} for at in range(2)]
    where = {"partition": "gpu", "gpu": "a100"}
    report = served.serve.run(
        served.order("1.1", digest, "main.sh", gpus=devices, slurm=where, env={"SLURM_CONF": str(slurm.conf)})
    )
    assert report["outcome"] == "done"
    assert "gpu:a100:2" in served.serve.out("1.1")


def test_what_slurm_refuses_could_not_be_prepared_there(served: Served, project: Project) -> None:
    digest = served.serve.project(project(":\n"))
    report = served.serve.run(served.order("1.1", digest, "main.sh", slurm={"partition": "nowhere"}))
    assert (report["outcome"], report["at_fault"]) == ("prepare_failed", "node")
    assert report["reason"].startswith("Slurm refused it: ")
    assert "invalid partition" in report["reason"]


def test_the_cluster_is_told(served: Served) -> None:
    inventory = served.serve.call("probe")
    assert (inventory["cpus"], inventory["job_cpus"], len(inventory["gpus"])) == (128, 64, 4)
    facts = served.serve.call("slurm")
    assert facts["versions"]["sbatch"].startswith("slurm")
    assert [one["name"] for one in facts["partitions"] if one["limit_s"] == 7200.0] == ["gpu"]
    assert facts["canary"]["ok"], facts
    assert facts["accounting"] is False


def test_a_terminal_beside_it_is_where_it_runs(served: Served, project: Project) -> None:
    digest = served.serve.project(project("sleep 60\n"))
    served.serve.launch(served.order("1.1", digest, "main.sh"))
    served.serve.running("1.1")
    argv = served.serve.call("attach", attempt="1.1")["shell"]
    assert argv[:3] == ["srun", f"--jobid={served.job('1.1')}", "--overlap"]
