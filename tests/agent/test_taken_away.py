"""What is removed while the agent runs is made again; what jobs leave behind when they are ended goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from racksack_agent import private_tmp, processes, sessions
from racksack_agent.home import Home
from racksack_agent.serve import upkeep
from racksack_agent.serve.attempts import is_left_behind, since_launch_s
from tests.agent.processes import kill_all_that_watch, wait_until, with_word
from tests.agent.serving import Serve, order
from tests.agent.test_ending import STUBBORN

Project = Callable[..., Path]
WAITS = "#!/bin/sh\nuntil [ -e $RACKSACK_TMP/go ]; do sleep 0.05; done; echo went on\n"


def goes_on(serve: Serve, attempt: str) -> None:
    (serve.home / "attempts" / attempt / "tmp/go").touch()
    assert serve.ended(attempt)["outcome"] == "done"
    assert serve.out(attempt) == "went on\n"


@pytest.mark.parametrize("name", ["incoming", "run", "snapshots", "bases", "kept", "cache", "launch.lock"])
def test_what_is_removed_from_the_home_is_made_again(serve: Serve, project: Project, name: str) -> None:
    source = project(job__sh=WAITS)
    digest = serve.project(source)
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    path = serve.home / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if path.suffix != ".lock":
        wait_until(path.is_dir)
    goes_on(serve, "1.1")
    assert serve.project(source) == digest
    serve.launch(order("2.1", digest, "job.sh"))
    serve.running("2.1")
    goes_on(serve, "2.1")


def test_news_come_quickly_again_after_the_pipe_was_removed(serve: Serve, project: Project) -> None:
    serve.call("hello")
    run = serve.home / "run"
    wait_until(lambda: len(list(run.glob("*.pipe"))) == 1)
    [old] = run.glob("*.pipe")
    old.unlink()
    wait_until(lambda: len(list(run.glob("*.pipe"))) == 1)
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    assert serve.run(order("1.1", digest, "job.sh"))["outcome"] == "done"


def test_without_a_pipe_reports_come_all_the_same(
    start_serve: Callable[..., Serve], home: Path, project: Project
) -> None:
    """As on a disk without inodes."""
    Home(str(home)).make()
    (home / "run").rmdir()
    (home / "run").symlink_to("/proc/self")  # nothing can be made there
    serve = start_serve()
    digest = serve.project(project(job__sh="#!/bin/sh\n"))
    assert serve.run(order("1.1", digest, "job.sh"))["outcome"] == "done"


def test_the_lock_of_a_living_attempt_may_be_removed(serve: Serve, project: Project) -> None:
    serve.launch(order("1.1", serve.project(project(job__sh=WAITS)), "job.sh"))
    serve.running("1.1")
    (serve.home / "attempts/1.1/lock").unlink()
    time.sleep(2.5)  # two looks at it
    assert serve.call("reports")[0]["state"] == "running"
    goes_on(serve, "1.1")
    serve.call("remove", attempts=["1.1"])


def test_a_stop_reaches_an_attempt_whose_lock_was_removed(serve: Serve, project: Project) -> None:
    serve.launch(order("1.1", serve.project(project(job__sh=WAITS)), "job.sh"))
    serve.running("1.1")
    (serve.home / "attempts/1.1/lock").unlink()
    serve.call("stop", attempt="1.1", reason="cancelled", grace_s=0)
    assert serve.ended("1.1")["outcome"] == "cancelled"


@pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")
def test_the_socket_of_the_sessions_is_made_again(serve: Serve, project: Project) -> None:
    digest = serve.project(project(job__sh=WAITS))
    serve.launch(order("1.1", digest, "job.sh"))
    serve.running("1.1")
    socket = Path(f"{private_tmp.folder()}/{sessions.home_key(Home(str(serve.home)))}.tmux")
    servers = processes.with_argument(os.fsencode(socket), b"tmux: server")
    assert len(servers) == 1
    socket.unlink()
    serve.launch(order("2.1", digest, "job.sh"))
    serve.running("2.1")
    assert processes.with_argument(os.fsencode(socket), b"tmux: server") == servers, "no second server beside it"
    listed = subprocess.run(["tmux", "-S", socket, "ls"], capture_output=True, text=True, check=True).stdout
    assert [line.partition(":")[0] for line in listed.splitlines()] == ["racksack-1-1", "racksack-2-1"]
    for attempt in ("1.1", "2.1"):
        goes_on(serve, attempt)
    serve.close()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in servers))


def test_an_agent_whose_files_were_removed_ends_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text("")
    upkeep.check_package(str(tmp_path))
    (tmp_path / "__main__.py").unlink()
    with pytest.raises(upkeep.AgentRemovedError, match="removed"):
        upkeep.check_package(str(tmp_path))


def test_a_file_in_the_place_of_an_attempt_does_not_keep_it_from_starting(serve: Serve, project: Project) -> None:
    (serve.home / "attempts").mkdir(parents=True, exist_ok=True)
    (serve.home / "attempts/1.1").write_text("stray")
    serve.call("hello")
    assert serve.run(order("1.1", serve.project(project(job__sh="#!/bin/sh\n")), "job.sh"))["outcome"] == "done"


def test_a_process_without_a_trace_of_its_attempt_is_found(serve: Serve, project: Project, token: str) -> None:
    """Its own session, an empty environment, another folder, no open file: when all that watched it is killed."""
    hidden = STUBBORN.replace("os.setsid()", "os.setsid(); os.chdir('/'); os.closerange(0, 3)")
    serve.launch(order("1.1", serve.project(project(main__py=hidden)), "main.py", token))
    serve.running("1.1")
    wait_until(lambda: len(with_word(token)) >= 2)
    kill_all_that_watch(serve.home, "1.1")
    assert serve.ended("1.1")["outcome"] == "lost"
    wait_until(lambda: with_word(token) == [])


SHARES = """
import mmap, os, sys, time
for number, path in enumerate(sys.argv[1:]):
    file = open(path, "w+b")
    file.truncate(1 << 20)
    if number == 0:
        mapped = mmap.mmap(file.fileno(), 1 << 20)
        file.close()
    globals()[f"kept_{number}"] = file
if sys.argv[1].endswith("ends"):
    sys.exit()
print("ready", flush=True)
time.sleep(600)
"""


def test_what_a_cancelled_job_had_in_shared_memory_is_removed(serve: Serve, project: Project) -> None:
    name = f"/dev/shm/test-{uuid.uuid4().hex}"
    used = [Path(f"{name}-{part}") for part in ("mapped", "open", "used-elsewhere")]
    unknown, left = Path(f"{name}-closed"), Path(f"{name}-ends")
    unknown.write_bytes(b"x")
    digest = serve.project(project(main__py=SHARES))
    try:
        serve.launch(order("1.1", digest, "main.py", *map(str, used)))
        wait_until(lambda: "1.1" in serve.reports and all(path.exists() for path in used))
        wait_until(lambda: (serve.home / "attempts/1.1/out/stdout.log").read_text() == "ready\n")
        with used[2].open("rb"):
            serve.call("stop", attempt="1.1", reason="cancelled", grace_s=0)
            assert serve.ended("1.1")["outcome"] == "cancelled"
        assert [path.exists() for path in used] == [False, False, True]
        assert unknown.exists(), "nobody knows whose that is"
        serve.run(order("2.1", digest, "main.py", str(left)))
        assert left.exists(), "a job that ends by itself may leave it for the next one"
    finally:
        for path in (*used, unknown, left):
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
def test_the_clock_is_set_while_an_attempt_starts(jump_s: float) -> None:
    """How long ago it was launched does not depend on what was done to the clock since."""
    launch = {"launched_at_s": time.time() + jump_s, "launched_monotonic_s": time.monotonic() - 5.0, "launcher": [1, 1]}
    assert 5.0 <= since_launch_s(launch) < 60.0
    assert is_left_behind(launch)
