"""What a job does to its own process group, to its parents or to "everything called python" reaches none of the
processes that watch it; and if one of those is stopped or killed all the same, the job runs once and its end is known.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from racksack_agent import processes
from tests.agent.processes import kill_all_that_watch, wait_until, with_word
from tests.agent.serving import order

# It counts how often it runs: a file outside of the attempt gets a line for each.
COUNTS = """
import os, signal, subprocess, sys, time
open(sys.argv[1], "a").write("run\\n")
out = os.environ["RACKSACK_RETURN_DIR"]
def parent_of(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
"""

HARMFUL = {
    "kill 0 with KILL": ("failed", "subprocess.Popen(['sleep', '600']); os.killpg(0, signal.SIGKILL)"),
    "kill 0 with TERM, and saves": (
        "done",
        "signal.signal(signal.SIGTERM, lambda *_: None); subprocess.Popen(['sleep', '600'])\n"
        "os.kill(0, signal.SIGTERM); time.sleep(0.5); open(out + '/answer.txt', 'w').write('42')",
    ),
    "kill 0 with HUP": ("failed", "os.kill(0, signal.SIGHUP)"),
    "a child with a session of its own": (
        "done",
        "subprocess.Popen(['sleep', '600'], start_new_session=True); open(out + '/answer.txt', 'w').write('42')",
    ),
    "kills its parent": ("done", "os.kill(os.getppid(), signal.SIGKILL); time.sleep(0.5)"),
    "kills its grandparent": ("done", "os.kill(parent_of(os.getppid()), signal.SIGKILL); time.sleep(0.5)"),
    "kills its grandparent and fails": (
        "failed",
        "os.kill(parent_of(os.getppid()), signal.SIGKILL); time.sleep(0.5); sys.exit(3)",
    ),
    "kills its grandparent and ends at once": ("done", "os.kill(parent_of(os.getppid()), signal.SIGKILL)"),
    "asks its grandparent to end": ("done", "os.kill(parent_of(os.getppid()), signal.SIGTERM); time.sleep(0.5)"),
    "stops its parent": ("done", "os.kill(os.getppid(), signal.SIGSTOP)"),
    "stops its grandparent": ("done", "os.kill(parent_of(os.getppid()), signal.SIGSTOP)"),
}


@pytest.fixture
def runs(tmp_path):
    """The file that the job adds a line to each time it runs."""
    return tmp_path / "runs"


def test_a_job_that_harms_what_watches_it_runs_once_to_its_own_end(serve, project, tmp_path):
    for number, (_, code) in enumerate(HARMFUL.values(), 1):
        digest = serve.project(project(main__py=COUNTS + code + "\n"))
        serve.launch(order(f"{number}.1", digest, "main.py", str(tmp_path / f"runs{number}"), cpus=0.1))
    reports = {name: serve.ended(f"{number}.1") for number, name in enumerate(HARMFUL, 1)}
    expected = {name: outcome for name, (outcome, _) in HARMFUL.items()}
    assert {name: report["outcome"] for name, report in reports.items()} == expected, reports
    assert reports["kills its grandparent and fails"]["exit_code"] == 3
    for number, (_, code) in enumerate(HARMFUL.values(), 1):
        assert (tmp_path / f"runs{number}").read_text() == "run\n"
        if "answer" in code:
            assert serve.out(f"{number}.1", "answer.txt") == "42"


def test_a_script_that_ends_its_group_when_it_ends(serve, project):
    script = (
        "#!/bin/bash\ntrap 'trap - TERM && kill 0' INT TERM EXIT\nsleep 600 & echo 42 >$RACKSACK_RETURN_DIR/answer\n"
    )
    report = serve.run(order("1.1", serve.project(project(job__sh=script)), "job.sh"))
    assert (report["outcome"], report["signal"]) == ("failed", signal.SIGTERM)  # as in a shell of one's own
    assert serve.out("1.1", "answer") == "42\n"


def test_a_stopped_job_is_its_own_affair_and_can_be_cancelled(serve, project, token):
    """`kill -STOP 0` stops the job, and nothing that has to end it."""
    digest = serve.project(project(job__sh='#!/bin/sh\necho "$1"\nkill -STOP 0\necho on\n'))
    serve.launch(order("1.1", digest, "job.sh", token))
    serve.running("1.1")
    wait_until(lambda: serve.out("1.1") == token + "\n")
    serve.call("stop", attempt="1.1", reason="cancelled", grace_s=1)
    assert serve.ended("1.1")["outcome"] == "cancelled"
    assert with_word(token) == []


def test_no_process_of_ours_is_called_python(serve, project):
    """`pgrep` finds what `pkill` with the same words would end."""
    serve.launch(order("1.1", serve.project(project(job__sh="#!/bin/sh\nexec sleep 600\n")), "job.sh"))
    supervisor = serve.running("1.1")["node_pid"]
    ours = {serve.pid, supervisor, processes.parents()[supervisor], started(serve)["reaper"][0]}
    for match in (["-f", "python"], ["python"], ["-f", "-i", "PYTHON3"]):
        found = subprocess.run(["pgrep", *match], capture_output=True, text=True, check=False).stdout.split()
        assert ours & set(map(int, found)) == set()
    titles = [Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0") for pid in sorted(ours)]
    assert sorted(titles) == [
        [b"racksack-agent", b"forkserver"],
        [b"racksack-agent", b"serve", b"--home", bytes(serve.home)],
        [b"racksack-job", b"1.1"],
        [b"racksack-supervisor", b"1.1"],
    ]


def test_a_stopped_supervisor_goes_on_and_hears_a_stop(serve, project):
    serve.launch(order("1.1", serve.project(project(job__sh="#!/bin/sh\nexec sleep 600\n")), "job.sh"))
    os.kill(serve.running("1.1")["node_pid"], signal.SIGSTOP)
    serve.call("stop", attempt="1.1", reason="cancelled", grace_s=1)
    assert serve.ended("1.1")["outcome"] == "cancelled"


def test_a_stopped_fork_server_goes_on(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    serve.run(order("1.1", digest, "job.sh"))
    (forkserver,) = (pid for pid, parent in processes.parents().items() if parent == serve.pid)
    os.kill(forkserver, signal.SIGSTOP)
    assert serve.run(order("2.1", digest, "job.sh"))["outcome"] == "done"


def test_a_program_whose_supervisor_died_while_nobody_served_is_found_again(start_serve, project, runs):
    """Its exit code is known although nobody was there to ask for it."""
    first = start_serve()
    script = COUNTS + "while not os.path.exists(sys.argv[2]): time.sleep(0.02)\nprint('saved'); sys.exit(7)\n"
    digest = first.project(project(main__py=script))
    first.launch(order("1.1", digest, "main.py", str(runs), str(runs) + ".go"))
    supervisor = first.running("1.1")["node_pid"]
    wait_until(runs.exists)
    first.close()
    os.kill(supervisor, signal.SIGKILL)
    Path(str(runs) + ".go").touch()
    wait_until(lambda: not processes.is_alive(started(first)["reaper"]))
    report = start_serve().ended("1.1")
    assert (report["outcome"], report["exit_code"]) == ("failed", 7)
    assert first.out("1.1") == "saved\n"
    assert runs.read_text() == "run\n"


def test_the_limits_hold_under_the_next_supervisor(serve, project, token):
    """Time limit and cancel: whoever takes over knows when the program began, and what had been asked."""
    digest = serve.project(project(job__sh="#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 600; done\n"))
    serve.launch(order("1.1", digest, "job.sh", token, time_limit_s=3, grace_s=0.2))
    serve.launch(order("2.1", digest, "job.sh", token))
    for attempt in ("1.1", "2.1"):
        os.kill(serve.running(attempt)["node_pid"], signal.SIGKILL)
    wait_until(lambda: serve.call("reports") and all((folder(serve, a) / "takeovers").exists() for a in ("1.1", "2.1")))
    serve.call("stop", attempt="2.1", reason="cancelled", grace_s=0.2)
    assert serve.ended("1.1")["outcome"] == "timeout"
    assert serve.ended("2.1")["outcome"] == "cancelled"
    assert with_word(token) == []


def test_an_end_that_had_begun_is_finished_by_the_next_supervisor(serve, project, token):
    digest = serve.project(project(job__sh="#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 600; done\n"))
    serve.launch(order("1.1", digest, "job.sh", token, time_limit_s=1, grace_s=3))
    supervisor = serve.running("1.1")["node_pid"]
    wait_until((folder(serve, "1.1") / "ending.json").exists)
    os.kill(supervisor, signal.SIGKILL)
    report = serve.ended("1.1")
    assert report["outcome"] == "timeout"
    assert with_word(token) == []


def test_memory_and_leftovers_under_the_next_supervisor(serve, project, token):
    """Statistics see the tree, and what the program leaves behind is ended."""
    script = "#!/bin/sh\nsleep 600 &\nuntil [ -e $RACKSACK_TMP/go ]; do sleep 0.05; done\n"
    serve.launch(order("1.1", serve.project(project(job__sh=script)), "job.sh", env={"TOKEN": token}))
    os.kill(serve.running("1.1")["node_pid"], signal.SIGKILL)
    wait_until((folder(serve, "1.1") / "takeovers").exists)
    wait_until(lambda: serve.call("stats")["attempts"]["1.1"]["rss_bytes"] > 0)
    (folder(serve, "1.1") / "tmp/go").touch()
    report = serve.ended("1.1")
    assert (report["outcome"], report["exit_code"]) == ("done", 0)
    assert with_word(token) == []


def test_when_all_that_watch_it_are_killed_the_attempt_is_lost_and_leaves_nothing(serve, project, token):
    """Nobody could tell how the program ends; it must not run beside its next attempt."""
    serve.launch(order("1.1", serve.project(project(job__sh="#!/bin/sh\nsleep 600\n")), "job.sh", token))
    serve.running("1.1")
    kill_all_that_watch(serve.home, "1.1")
    assert serve.ended("1.1")["outcome"] == "lost"
    assert with_word(token) == []


def folder(serve, attempt):
    return serve.home / "attempts" / attempt


def started(serve, attempt="1.1"):
    return json.loads((folder(serve, attempt) / "job.json").read_text())
