"""The commands against the real embedded controller on this machine: started on demand, jobs really run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.conftest import Cli

import racksack
from racksack.client import Client
from racksack.transport.target import Target

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None and shutil.which("screen") is None, reason="needs tmux or screen"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync"),
]

RUNS = """\
import os, sys, pathlib, time
print("hello", *sys.argv[1:], flush=True)
print("on stderr", file=sys.stderr)
pathlib.Path(os.environ["RACKSACK_RETURN_DIR"], "model.bin").write_bytes(b"m" * 100)
if "--sleep" in sys.argv:
    time.sleep(120)
sys.exit(int(os.environ.get("CODE", "0")))
"""


def process_of(home: Path) -> int | None:
    """The embedded controller of this home."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"racksack_controller" in words and os.fsencode(home) in words:
                return int(folder.name)
    return None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that is deeper than a socket's address may be long."""
    path = tmp_path_factory.mktemp("embedded") / ("deep" * 25)
    yield path
    target = Target(str(path / "spool"), home=path)
    process = process_of(path)
    if process is not None:
        with Client(target) as client:
            for job in client.jobs():
                client.act(job.id, "cancel", grace_s=0)
            client.post("controller/stop")
        deadline = time.monotonic() + 20
        while process_of(path) is not None and time.monotonic() < deadline:
            time.sleep(0.05)


@pytest.fixture(autouse=True)
def use_it(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKSACK_HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "main.py").write_text(RUNS)
    return folder


def test_from_nothing_to_results(cli: Cli, work: Path, tmp_path: Path) -> None:
    ended = cli("submit", work, "main.py", "--no-venv", "--fetch", "out", "--", "--epochs", "1 2")
    assert ended.code == 0, ended.err
    (folder,) = (tmp_path / "out").iterdir()
    assert (folder / "model.bin").read_bytes() == b"m" * 100
    assert (folder / "stdout.log").read_text() == "hello --epochs 1 2\n"
    assert (folder / "stderr.log").read_text() == "on stderr\n"
    assert json.loads((folder / "result.json").read_text())
    assert cli("fetch-results").out == "nothing new\n"


def test_how_it_ended_is_the_exit_code(cli: Cli, work: Path) -> None:
    ended = cli("submit", work, "main.py", "--no-venv", "--wait", "-e", "CODE=3")
    assert ended.code == 10
    assert "failed: exit code 3" in ended.err
    assert cli("racksack", "wait", "last", "--exit-code", "-q").code == 3
    assert cli("racksack", "logs", "last", "--stdout").out == "hello\n"


def test_following_shows_what_it_prints(cli: Cli, work: Path) -> None:
    ended = cli("submit", work, "main.py", "--no-venv", "--follow")
    assert ended.code == 0
    assert "hello\n" in ended.out
    assert "on stderr\n" in ended.err


def test_cancelling(cli: Cli, work: Path, tmp_path: Path) -> None:
    number = cli("submit", work, "main.py", "--no-venv", "--parsable", "--", "--sleep").out.strip()
    deadline = time.monotonic() + 60
    while "hello" not in cli("racksack", "logs", number, "--stdout").out:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert cli("racksack", "cancel", number, "--reason", "enough", "--grace", "1s").code == 0
    ended = cli("racksack", "wait", number, "--timeout", "60s")
    assert ended.code == 13, ended.err
    assert "enough" in cli("racksack", "status", number).out
    fetched = cli("fetch-results", number)
    assert fetched.code == 0, fetched.err
    assert (tmp_path / f"results/{number}-main/model.bin").exists()


def test_results_that_were_deleted_are_said_to_be(cli: Cli, work: Path, home: Path) -> None:
    number = cli("submit", work, "main.py", "--no-venv", "--parsable", "--wait").out.split()[0]
    assert cli("fetch-results", number, "--delete-after").code == 0
    for command in (("fetch-results", number), ("racksack", "logs", number)):
        again = cli(*command)
        assert again.code == 3, again.err
        assert "deleted" in again.err
    assert json.loads(cli("racksack", "status", number, "--json").out)["results_deleted"] is True
    with Client(Target(str(home / "spool"), home=home)) as client:
        client.act(int(number), "fetched", delete=True)  # as after an answer that was lost


def test_logs_of_attempts_that_were_and_were_not(cli: Cli, work: Path) -> None:
    (work / "count.sh").write_text("#!/bin/sh\necho this is $RACKSACK_ATTEMPT\nexit 1\n")
    (work / "count.sh").chmod(0o755)
    number = cli("submit", work, "count.sh", "--retries", "1", "--parsable", "-q").out.strip()
    assert cli("racksack", "wait", number, "--timeout", "120s").code == 10
    assert cli("racksack", "logs", number, "--attempt", "1").out == f"this is {number}.1\n"
    assert cli("racksack", "logs", number, "--attempt", "2").out == f"this is {number}.2\n"
    never = cli("racksack", "logs", number, "--attempt", "3")
    assert never.code == 3, never.err
    assert "has no attempt 3; its last one is 2" in never.err
    assert not never.out


def test_never_runnable_and_bad_specs_send_nothing(cli: Cli, work: Path, home: Path) -> None:
    before = sorted((home / "spool/snapshots").iterdir())
    (work / "new").write_text("new content")
    assert cli("submit", work, "main.py", "--cpus", "5000").code == 6
    assert cli("submit", work, "main.py", "--dry-run", "--no-venv").code == 0
    assert sorted((home / "spool/snapshots").iterdir()) == before
    assert not list((home / "spool/incoming").iterdir())


def test_an_array_and_a_dependency(cli: Cli, work: Path) -> None:
    ids = cli("submit", work, "main.py", "--no-venv", "--array", "0-2", "--parsable", "-J", "arr").out.split()
    assert len(ids) == 3
    after = cli("submit", work, "main.py", "--no-venv", "--after", ",".join(ids), "--wait")
    assert after.code == 0, after.err
    states = [row["state"] for row in cli("racksack", "history", "--json").json if str(row["id"]) in ids]
    assert states == ["done"] * 3


def test_hold_release_retry(cli: Cli, work: Path) -> None:
    number = cli("submit", work, "main.py", "--no-venv", "--hold", "--parsable").out.strip()
    assert "HELD" in cli("racksack", "status").out
    assert cli("racksack", "why", number).code == 0
    assert cli("racksack", "release", number).code == 0
    assert cli("racksack", "wait", number, "-q").code == 0
    assert cli("racksack", "release", number).code == 5
    assert cli("racksack", "retry", number).code == 0
    assert cli("racksack", "wait", number, "-q").code == 0


def test_nodes_can_be_drained(cli: Cli) -> None:
    (node,) = cli("racksack", "nodes", "--json").json
    assert node["cpus"]["total"] >= 1
    assert cli("racksack", "drain", node["name"], "--reason", "test").code == 0
    assert "test" in cli("racksack", "nodes").out
    assert cli("racksack", "resume", node["name"]).code == 0
    assert cli("racksack", "drain", "nowhere", "--reason", "x").code == 3


def test_odd_names_make_the_round_trip(cli: Cli, work: Path, tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"two\nlines", b"$(x) 'q' \"d\"", "größe".encode()]
    for name in names:
        (work / os.fsdecode(name)).write_bytes(name)
    (work / "main.py").write_text(
        "import os, shutil\n"
        "for name in os.listdir(b'.'):\n"
        "    if name != b'main.py':\n"
        "        shutil.copy(name, os.path.join(os.fsencode(os.environ['RACKSACK_RETURN_DIR']), name))\n"
    )
    ended = cli("submit", work, "main.py", "--no-venv", "--fetch", "out", "--name", "<b>'; rm -rf /;$(x)")
    assert ended.code == 0, ended.err
    (folder,) = (tmp_path / "out").iterdir()
    for name in names:
        assert (folder / os.fsdecode(name)).read_bytes() == name


def test_the_same_key_is_one_job(cli: Cli, work: Path) -> None:
    submit = ("submit", work, "main.py", "--no-venv", "--parsable", "--submission-key", "only-once")
    assert cli(*submit).out == cli(*submit).out


def test_a_project_that_is_edited_after_submit_runs_as_it_was(cli: Cli, work: Path) -> None:
    number = cli("submit", work, "main.py", "--no-venv", "--hold", "--parsable").out.strip()
    (work / "main.py").write_text("raise SystemExit(9)\n")
    cli("racksack", "release", number)
    assert cli("racksack", "wait", number, "-q").code == 0


def test_commands_go_on_after_the_controller_was_killed(cli: Cli, work: Path, home: Path) -> None:
    """A follower keeps its place while the controller dies and another one, started by the next command, takes over."""
    number = cli("submit", work, "main.py", "--no-venv", "--parsable", "--", "--sleep").out.strip()
    argv = [
        sys.executable,
        "-c",
        "from racksack.main import racksack; raise SystemExit(racksack())",
        "logs",
        "-f",
        number,
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "hello --sleep\n"
        process = process_of(home)
        assert process is not None
        os.kill(process, signal.SIGKILL)
        assert cli("racksack", "status", number).code == 0
        assert process_of(home) not in (None, process)
        assert cli("racksack", "cancel", number, "--force").code == 0
        assert follower.stdout.read() == ""
        assert follower.wait(timeout=60) == 13


def test_a_stop_right_before_a_start(cli: Cli) -> None:
    assert cli("racksack", "controller", "stop").code == 0
    assert cli("racksack", "status").code == 0


def test_several_first_commands_start_one_controller(tmp_path: Path) -> None:
    home = tmp_path / "second"
    target = Target(str(home / "spool"), home=home)
    states: list[object] = []

    def ask() -> None:
        with Client(target) as client:
            states.append(client.status())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(states) == 3
    with Client(target) as client:
        client.post("controller/stop")
    deadline = time.monotonic() + 60
    while process_of(home) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_python_api(work: Path, tmp_path: Path) -> None:
    job = racksack.submit(work, "main.py", environment="none", args=["from", "python"], name="api")
    assert list(job.logs(follow=True)) == ["hello from python"]
    assert job.wait(timeout_s=60) == "done"
    assert (job.fetch() / "model.bin").exists()
    assert racksack.nodes()[0].name


def test_usage_of_jobs_and_programs_and_what_submit_says_of_it(cli: Cli, work: Path) -> None:
    asks = ("submit", work, "main.py", "--no-venv", "--name", "greedy7", "--ram", "3G", "--time-limit", "2d")
    for _ in range(3):
        assert cli(*asks, "--wait").code == 0
    told = cli("racksack", "usage", "last")
    assert "memory  " in told.out
    assert " of 3G at most (" in told.out
    assert "advice  the last 3 runs of main.py peaked at " in told.out
    [usage] = [json.loads(cli("racksack", "usage", "last", "--json").out)]
    assert usage["ram_bytes"] == 3 * 2**30
    assert 0 < usage["ram_efficiency"] < 0.5
    [program] = json.loads(cli("racksack", "usage", "--project", "greedy7", "--json").out)
    assert (program["name"], program["runs"], program["failed"]) == ("greedy#", 3, 0)
    assert "greedy# (main.py)" in cli("racksack", "usage").out
    assert cli("racksack", "usage", "--project", "nothing").out == "no runs\n"
    again = cli(*asks, "--dry-run")
    assert "note: the last 3 runs of main.py peaked at " in again.err
    assert "at most of 2d0h allowed; with --time-limit " in again.err
    assert cli("racksack", "usage", "1", "--project", "x").code == 2
    assert cli("racksack", "usage", "999999").code == 3


def test_what_git_ignores_is_there_for_the_job(cli: Cli, work: Path) -> None:
    (work / ".gitignore").write_text("data/\n")
    (work / "data").mkdir()
    (work / "data/table.csv").write_text("1,2\n")
    (work / "reads.py").write_text("print(open('data/table.csv').read())\n")
    ended = cli("submit", work, "reads.py", "--no-venv", "--follow")
    assert ended.code == 0, ended.err
    assert "1,2\n" in ended.out
