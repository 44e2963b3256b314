"""The fork server and the panes: their deaths, their ends, and what is typed into a pane."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.agent.processes import kill_all_that_watch, wait_until
from tests.agent.serving import order


def fork_servers(serve):
    """The fork servers of a `serve`: its children, by what /proc says."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if int(parent) == serve.pid and b"forkserver" in words:
                found.append(int(folder.name))
    return found


def tmux_of(serve, attempt):
    words = serve.call("attach", attempt=attempt)["session"]
    return words[: words.index("attach-session")]


def test_a_fork_server_that_died_is_started_again(serve, project):
    digest = serve.project(project(job__sh="#!/bin/sh\nexec sleep 600\n"))
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    (first,) = fork_servers(serve)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in fork_servers(serve) or Path(f"/proc/{first}/stat").read_text().split()[2] == "Z")
    serve.launch(order("2.1", digest, "job.sh"))
    serve.running("2.1")
    assert serve.call("reports")[0]["state"] == serve.call("reports")[1]["state"] == "running", "the first job goes on"


def test_the_fork_server_ends_with_serve_and_no_supervisor_does(start_serve, project):
    serve = start_serve()
    digest = serve.project(project(job__sh="#!/bin/sh\nuntil [ -e $RACKSACK_TMP/go ]; do sleep 0.05; done\n"))
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    servers = fork_servers(serve)
    serve.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in servers))
    (serve.home / "attempts/1.1/tmp/go").touch()
    assert start_serve().ended("1.1")["outcome"] == "done"


def test_no_session_is_left_of_ended_attempts(serve, project):
    digest = serve.project(project(quick__sh="#!/bin/sh\n", wait__sh="#!/bin/sh\nexec sleep 600\n"))
    serve.launch(*(order(f"{number}.1", digest, "quick.sh") for number in range(20)), order("99.1", digest, "wait.sh"))
    for number in range(20):
        serve.ended(f"{number}.1")
    serve.running("99.1")
    listing = [*tmux_of(serve, "99.1"), "list-sessions", "-F", "#{session_name}"]

    def sessions():
        return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()

    wait_until(lambda: sessions() == ["racksack-99-1"])
    kill_all_that_watch(serve.home, "99.1")
    serve.ended("99.1")
    wait_until(lambda: sessions() == [])


def test_ctrl_c_in_the_pane_interrupts_the_job(serve, project):
    script = "import time\nprint('ready', flush=True)\ntry:\n    time.sleep(600)\n"
    script += "except KeyboardInterrupt:\n    print('stopped')\n"
    serve.launch(order("1.1", serve.project(project(main__py=script)), "main.py"))
    serve.running("1.1")
    wait_until(lambda: serve.out("1.1") == "ready\n")
    subprocess.run([*tmux_of(serve, "1.1"), "send-keys", "-t", "=racksack-1-1:", "C-c"], check=True)
    assert serve.ended("1.1")["outcome"] == "done"
    assert serve.out("1.1") == "ready\nstopped\n"


@pytest.mark.parametrize(("interactive", "read"), [(False, "nothing\n"), (True, "yes\n")])
def test_what_a_job_reads(serve, project, interactive, read):
    """Nothing, so that a question does not wait for a week; or what is typed into its pane, if it asked for that."""
    script = "#!/bin/sh\necho ready >&2\nread answer || answer=nothing; echo $answer\n"
    digest = serve.project(project(job__sh=script))
    serve.launch(order("1.1", digest, "job.sh", interactive=interactive))
    if interactive:
        serve.running("1.1")
        subprocess.run([*tmux_of(serve, "1.1"), "send-keys", "-t", "=racksack-1-1:", "yes", "Enter"], check=True)
    assert serve.ended("1.1")["outcome"] == "done"
    assert serve.out("1.1") == read


def test_long_names_only_make_the_batches_smaller(serve, project):
    """tmux takes commands of 16 KiB."""
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    serve.launch(*(order(f"{'x' * 60}{number}.1", digest, "job.sh", job_id=1) for number in range(60)))
    for number in range(60):
        assert serve.ended(f"{'x' * 60}{number}.1")["outcome"] == "done"


def test_what_a_serve_left_behind_is_started_by_the_next_one(start_serve, project, tmp_path):
    """Killed between making the folders and starting the supervisors: the attempts run all the same, and once."""
    tmux = tmp_path / "bin/tmux"
    tmux.parent.mkdir()
    tmux.write_text(f'#!/bin/sh\nrm {tmp_path}/armed 2>/dev/null && kill -9 $PPID\nexec /usr/bin/tmux "$@"\n')
    tmux.chmod(0o755)
    (tmp_path / "armed").touch()
    first = start_serve(env={"PATH": f"{tmux.parent}:{os.environ['PATH']}"})
    digest = first.project(project(job__sh=f"#!/bin/sh\necho ran >>{tmp_path}/$RACKSACK_JOB_ID\n"))
    orders = [order(f"{number}.1", digest, "job.sh") for number in (1, 2)]
    first.send(json.dumps({"id": 1, "op": "launch", "orders": orders}).encode() + b"\n")
    wait_until(lambda: not (tmp_path / "armed").exists())
    first.kill()
    second = start_serve()
    assert [second.ended(f"{number}.1")["outcome"] for number in (1, 2)] == ["done", "done"]
    assert [(tmp_path / str(number)).read_text() for number in (1, 2)] == ["ran\n", "ran\n"]
