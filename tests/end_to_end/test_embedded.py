"""The commands on one machine, from submit to fetched results, with the embedded controller."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end import projects
from tests.end_to_end.site import Site, command_line, is_alive, until
from tests.sizes import sized

BURST = sized(60, 200)  # jobs that are dropped at once


@pytest.fixture
def traced(shared_site: Site, request: pytest.FixtureRequest) -> Path:
    """A project whose job waits for a file, in a folder of the test's own."""
    return projects.make(shared_site.work / request.node.name.replace("[", "-").replace("]", ""), projects.TRACED)


def test_results_are_what_running_by_hand_gives(shared_site: Site, tmp_path: Path) -> None:
    site = shared_site
    project = projects.mixed(site.work / "mixed")
    arguments = ("a b'c\"$HOME;", "7", "100000", "0", "0")
    done = site.cli("submit", project, "main.py", "--cpus", "1", "--ram", "200M", "--wait", "--", *arguments)
    assert "Submitted job" in done.stdout
    site.cli("fetch-results")
    [folder] = (site.work / "results").iterdir()
    expected = projects.by_hand(project, tmp_path, *arguments)
    assert projects.results(folder) == expected
    result = json.loads((folder / "result.json").read_text())
    assert (result["state"], result["exit_code"], result["args"]) == ("done", 0, list(arguments))
    assert (
        site.cli("fetch-results").stdout.startswith("nothing new") or "nothing new" in site.cli("fetch-results").stderr
    )


def test_exit_code_and_partial_results_of_a_failed_job(shared_site: Site, tmp_path: Path) -> None:
    site = shared_site
    project = projects.mixed(site.work / "failing")
    site.cli(
        "submit",
        project,
        "main.py",
        "--out",
        "*.csv",
        "--wait",
        "--fetch",
        "got",
        "--",
        "x",
        "1",
        "10",
        "0",
        "3",
        code=10,
    )
    [folder] = (site.work / "got").iterdir()
    expected = projects.by_hand(project, tmp_path, "x", "1", "10", "0", "3")
    assert projects.results(folder) == expected | {"asked.csv": b"file x,1\n"}
    assert json.loads((folder / "result.json").read_text())["exit_code"] == 3


def test_logs_follow_a_job_and_give_its_outcome(shared_site: Site, traced: Path) -> None:
    site, go = shared_site, shared_site.root / "go-logs"
    job = site.submit(traced, "--", go)
    following = site.popen("racksack", "logs", "-f", job)
    assert following.stdout is not None
    assert following.stdout.readline() == "started\n"
    go.touch()
    out, err = following.communicate(timeout=60)
    assert (out, following.returncode) == ("ended\n", 0), err
    assert site.cli("racksack", "logs", job).stdout == "started\nended\n"


def test_cancel_ends_the_job_and_brings_what_there_is(shared_site: Site, traced: Path) -> None:
    site = shared_site
    job = site.submit(traced, "--", "100")
    site.wait_for(job, "running")
    until(lambda: any(f" {job}.1 " in line for line in site.traced()), "the job has begun")
    pid = int(next(line for line in site.traced() if f" {job}.1 " in line).split()[2])
    site.cli("racksack", "cancel", job, "--reason", "wrong data")
    site.wait_for(job, "cancelled")
    assert not is_alive(pid)
    assert "wrong data" in json.loads((site.returned(job) / "result.json").read_text())["reason"]
    assert (site.returned(job) / "attempt").read_text() == f"{job}.1"
    site.cli("racksack", "cancel", job)  # again: a note, no error
    site.cli("racksack", "wait", job, code=13)


def test_a_program_is_signalled_alone_and_may_ask_to_run_again(shared_site: Site) -> None:
    site = shared_site
    script = "#!/bin/sh\ntrap 'echo saved; exit 85' USR1\n"
    script += '[ "${RACKSACK_ATTEMPT#*.}" = 2 ] && exit 0\necho ready\nwhile :; do sleep 0.05; done\n'
    project = site.work / "saves"
    project.mkdir()
    (project / "run.sh").write_text(script)
    (project / "run.sh").chmod(0o755)
    options = ("--resubmit-on", "85", "--grace", "30s", "--warn", "USR1@60", "--cpus", "0.1", "--parsable")
    job = int(site.cli("submit", project, "run.sh", *options).stdout)
    until(lambda: "ready" in site.cli("racksack", "logs", job).stdout, "it runs")
    assert "was sent SIGUSR1" in site.cli("racksack", "signal", job).stdout
    site.wait_for(job, "done")
    assert (site.returned(job) / "attempts" / "1" / "stdout.log").read_text() == "ready\nsaved\n"
    assert "SIGUSR1 was sent" in site.cli("racksack", "status", job).stdout
    assert "only a running one" in site.cli("racksack", "signal", job, code=5).stderr
    refused = site.cli("submit", project, "run.sh", "--grace", "1h", code=6).stderr
    assert "jobs get at most 10m" in refused


def test_what_did_not_come_back_is_said_and_can_be_brought(shared_site: Site) -> None:
    site = shared_site
    project = site.work / "leaves"
    project.mkdir()
    script = (
        "#!/bin/sh\nmkdir ckpt; echo plot > plot.png; for i in 1 2; do head -c 11000000 /dev/zero > ckpt/$i.pt; done\n"
    )
    (project / "run.sh").write_text(script)
    (project / "run.sh").chmod(0o755)
    waited = site.cli("submit", project, "run.sh", "--out", "no*.csv", "--cpus", "0.1", "--wait")
    assert "comes back: what it writes to $RACKSACK_RETURN_DIR, no*.csv; new files up to 10M" in waited.stderr
    job = int(waited.stdout.split("job ")[1].split()[0])
    into = site.work / "left"
    texts = [waited.stderr, site.cli("racksack", "status", job).stdout]
    texts.append(site.cli("fetch-results", job, "-o", into).stdout)
    for text in texts:
        assert "not brought back: no*.csv: nothing matched" in text
        assert "2 files stayed on the node until" in text
        assert f"fetch-results {job} --out 'ckpt/**'" in text
    [folder] = into.iterdir()
    assert (folder / "plot.png").read_text() == "plot\n"
    assert not (folder / "ckpt").exists()
    brought = site.cli("fetch-results", job, "-o", into, "--out", "ckpt/1.pt", "--out", "x*")
    assert "x*: nothing matched" in brought.stderr
    assert "1 file stayed on the node" in brought.stdout
    assert (folder / "ckpt/1.pt").stat().st_size == 11000000
    site.cli("fetch-results", job, "-o", into, "--out", "ckpt/**")
    assert (folder / "ckpt/2.pt").stat().st_size == 11000000
    quick = site.submit(projects.make(site.work / "none-left", projects.TRACED), "--", "0")
    site.wait_for(quick, "done")
    assert "left nothing on its node" in site.cli("fetch-results", quick, "--out", "*", code=3).stderr


def test_cancel_without_results_leaves_the_story_alone(shared_site: Site, traced: Path) -> None:
    site = shared_site
    job = site.submit(traced, "--", "100")
    site.wait_for(job, "running")
    until(lambda: any(f" {job}.1 " in line for line in site.traced()), "the job has begun")
    told = site.cli("racksack", "cancel", job, "--no-results", "--force", "--wait").stdout
    assert told.startswith(f"{job} (main) cancelled on ")
    assert "partial" not in told
    assert [path.name for path in site.returned(job).iterdir()] == ["result.json"]
    assert "not wanted" in json.loads((site.returned(job) / "result.json").read_text())["reason"]
    until(lambda: not (site.home / f"node/attempts/{job}.1").exists(), "nothing of it is left on the node")


def test_hold_release_retry(shared_site: Site, traced: Path) -> None:
    site = shared_site
    job = site.submit(traced, "--hold", "--", "0")
    assert site.job(job)["state"] == "held"
    site.cli("racksack", "retry", job, code=5)
    site.cli("racksack", "release", job)
    site.cli("racksack", "wait", job)
    site.cli("racksack", "retry", job)
    again = until(lambda: (seen := site.job(job))["state"] == "done" and seen["attempt"] == 2 and seen, "it ran again")
    assert [attempt["number"] for attempt in again["attempts"]] == [1, 2]
    assert (site.returned(job) / "attempt").read_text() == f"{job}.2"
    assert (site.returned(job) / "attempts/1/attempt").read_text() == f"{job}.1"


def test_drain_why_resume(shared_site: Site, traced: Path) -> None:
    site = shared_site
    site.cli("racksack", "drain", "here", "--reason", "new fan")
    job = site.submit(traced, "--", "0")
    assert "new fan" in site.cli("racksack", "why", job).stdout
    assert "new fan" in site.cli("racksack", "nodes").stdout
    site.cli("racksack", "wait", job, "--timeout", "1s", code=124)
    site.cli("racksack", "resume", "here")
    site.cli("racksack", "wait", job)


def test_array_and_after(shared_site: Site, traced: Path) -> None:
    site, go = shared_site, shared_site.root / "go-array"
    done = site.cli("submit", traced, "main.py", "--no-venv", *site.tracing, "--array", "1-3", "--parsable", "--", go)
    first, *_rest = ids = [int(word) for word in done.stdout.split()]
    assert len(ids) == 3
    after = site.submit(traced, "--after", first, "--", "0")
    broken = site.submit(traced, "--after", first, "--name", "never", "--", "0")
    assert str(first) in site.cli("racksack", "why", after).stdout
    site.cli("racksack", "cancel", broken)
    go.touch()
    site.cli("racksack", "wait", *ids, after)
    starts = {line.split()[1]: float(line.split()[4]) for line in site.traced() if line.startswith("start")}
    ends = {line.split()[1]: float(line.split()[4]) for line in site.traced() if line.startswith("end")}
    assert starts[f"{after}.1"] >= max(ends[f"{job}.1"] for job in ids)


def test_after_a_failed_job_is_cancelled_with_the_reason(shared_site: Site) -> None:
    site, go = shared_site, shared_site.root / "go-after"
    script = f"import os, sys, time\nwhile not os.path.exists({str(go)!r}): time.sleep(.02)\nsys.exit(4)\n"
    first = site.submit(projects.make(site.work / "fails", script))
    after = site.submit(projects.make(site.work / "waits", "print('never')\n"), "--after", first)
    go.touch()
    site.cli("racksack", "wait", first, code=10)
    site.cli("racksack", "wait", after, code=13)
    assert f"job {first}" in site.job(after)["outcome_reason"]
    assert (site.returned(after) / "result.json").exists()


def test_dry_run_submits_nothing(shared_site: Site, traced: Path) -> None:
    site = shared_site
    before = len(site.ask("jobs?all=1"))
    assert "here" in site.cli("submit", traced, "main.py", "--dry-run").stdout
    assert len(site.ask("jobs?all=1")) == before


def test_the_first_plan_knows_the_node_that_is_being_connected(make_site: Callable[..., Site]) -> None:
    """The command starts the controller, which calls its nodes for the first time."""
    site = make_site()
    project = projects.make(site.work / "p", projects.TRACED)
    assert "fits on here" in site.cli("submit", project, "main.py", "--dry-run").stdout


@pytest.mark.parametrize("extra", [("--cpus", "99"), ("--ram", "99G"), ("--gpus", "1")])
def test_what_no_node_can_hold_is_said_at_submit(shared_site: Site, traced: Path, extra: tuple[str, str]) -> None:
    before = len(shared_site.ask("jobs?all=1"))
    done = shared_site.cli("submit", traced, "main.py", *extra, code=6)
    assert "here" in done.stderr or "node" in done.stderr
    assert len(shared_site.ask("jobs?all=1")) == before


@pytest.mark.parametrize("name", ['it\'s "quoted"', "<script>alert(1)</script>", "$(reboot);`x`", "a/../b", "-rf"])
def test_odd_names_survive_the_whole_way(shared_site: Site, traced: Path, name: str, tmp_path: Path) -> None:
    site = shared_site
    done = site.cli(
        "submit", traced, "main.py", "--no-venv", *site.tracing, f"--name={name}", "--parsable", "--", "0", code=None
    )
    if done.returncode == 2:
        assert "name" in done.stderr  # refused with a sentence is as good as taken
        return
    job = int(done.stdout)
    site.cli("racksack", "wait", job)
    assert site.job(job)["name"] == name
    site.cli("fetch-results", job, "-o", tmp_path)
    [folder] = tmp_path.iterdir()
    assert (folder / "attempt").read_text() == f"{job}.1"


def test_names_with_control_characters_are_refused(shared_site: Site, traced: Path) -> None:
    done = shared_site.cli("submit", traced, "main.py", "--name", "a\nb\x1b[31m", code=2)
    assert "\x1b" not in done.stderr
    assert "name" in done.stderr


def test_arguments_with_newlines_and_everything(shared_site: Site, tmp_path: Path) -> None:
    site = shared_site
    script = "import json, sys\nprint(json.dumps(sys.argv[1:]))\n"
    words = ["", " ", "a\nb", "'\"\\", "$HOME `x` ; &", "--wait", "\u00fc\u2603", "*"]
    job = site.submit(projects.make(site.work / "words", script), "--", *words)
    site.cli("racksack", "wait", job)
    assert json.loads(site.cli("racksack", "logs", job).stdout) == words


def test_the_terminals_hangup_does_not_end_a_job(shared_site: Site, traced: Path) -> None:
    site, go = shared_site, shared_site.root / "go-hangup"
    waiting = site.popen(
        "submit",
        traced,
        "main.py",
        "--no-venv",
        "--name",
        traced.name,
        *site.tracing,
        "--wait",
        "--",
        go,
        start_new_session=True,
    )
    name = traced.name
    job = until(lambda: site.ask(f"jobs?name={name}&state=running"), "it runs")[0]["id"]
    waiting.send_signal(signal.SIGINT)
    _out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130, err
    assert "Traceback" not in err
    go.touch()
    site.wait_for(job, "done")


def test_two_commands_at_once_start_one_controller(make_site: Callable[..., Site]) -> None:
    site = make_site()
    project = projects.make(site.work / "p", "print('x')\n")
    commands = [site.popen("submit", project, "main.py", "--no-venv", "--parsable") for _ in range(4)]
    ids = set()
    for command in commands:
        out, err = command.communicate(timeout=90)
        assert command.returncode == 0, f"{err}\n{site.log()}"
        ids.add(int(out))
    assert ids == {1, 2, 3, 4}
    until(lambda: len(_controllers(site)) == 1, "one controller lives")
    site.all_ended(4)
    site.stop()
    assert site.cli("racksack", "status").stdout  # a look starts it again, and the history is there
    assert len(site.ask("jobs?all=1")) == 4
    called_python = subprocess.run(
        ["pgrep", "-f", "python"], capture_output=True, text=True, check=False
    ).stdout.split()
    assert str(site.pid()) not in called_python, "a job's `pkill -f python` does not reach it"


def _controllers(site: Site) -> list[int]:
    return [pid for pid in site.processes() if b"racksack_controller" in command_line(pid)]


def test_a_burst_of_jobs(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.start()
    project = projects.make(site.work / "p", projects.TRACED)
    first = site.submit(project, "--cpus", "0.25", "--ram", "64M", "--", "0")
    site.wait_for(first, "done")
    digest = site.job(first)["snapshot"]
    for number in range(BURST):
        text = (
            f"project: snapshot:{digest}\nentrypoint: main.py\nenvironment: none\nargs: ['0']\ncpus: 0.25\nram: 64M\n"
        )
        text += f"env: {{TRACE: {site.trace}}}\n"
        beside = site.root / f"{number}.new"
        beside.write_text(text + f"name: burst-{number}\n")
        beside.rename(site.spool / "jobs" / f"{number}.yaml")
    began = time.monotonic()
    jobs = site.all_ended(BURST + 1, timeout_s=100)
    assert {job["state"] for job in jobs} == {"done"}
    assert sorted({job["name"] for job in jobs if job["id"] != first}) == sorted(f"burst-{n}" for n in range(BURST))
    assert len([line for line in site.traced() if line.startswith("start")]) == BURST + 1
    print(f"{BURST} jobs in {time.monotonic() - began:.1f} s")
    attempts = site.home / "node/attempts"
    until(lambda: not list(attempts.iterdir()), "nothing is left on the node")
    out = site.cli("fetch-results").stdout
    assert f"{BURST + 1} jobs" in out
    assert subprocess.run(["ls", site.work / "results"], capture_output=True, text=True).stdout.count("\n") == BURST + 1


def test_what_a_job_writes_under_our_names_is_kept_beside_ours(shared_site: Site) -> None:
    script = """
import os, pathlib
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
(out / "result.json").write_text('{"attempt": 1, "state": "done", "accuracy": 0.9}')
(out / "attempts").mkdir()
(out / "attempts/1").write_text("mine")
"""
    site = shared_site
    job = site.submit(projects.make(site.work / "names", script))
    site.wait_for(job, "done")
    folder = site.returned(job)
    assert json.loads((folder / "result.json").read_text())["job"] == job
    assert "accuracy" in (folder / "result.json.job").read_text()
    site.cli("racksack", "retry", job)
    until(lambda: (seen := site.job(job))["state"] == "done" and seen["attempt"] == 2, "it ran again")
    assert (folder / "attempts.job/1").read_text() == "mine"
    assert json.loads((folder / "attempts/1/result.json").read_text())["attempt"] == 1
