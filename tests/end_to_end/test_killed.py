"""`kill -9` of the controller, the agent and the tmux server: nothing is lost or runs twice, running jobs go on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end import projects
from tests.end_to_end.site import CONFIG, Site, command_line, is_alive, started_at, until
from tests.sizes import sized

MakeSite = Callable[..., Site]


@pytest.fixture
def project(site: Site) -> Path:
    return projects.make(site.work / "p", projects.TRACED)


def ran_once(site: Site, *jobs: int) -> None:
    """Each job began once and ended once, as its first attempt, and its folder is that attempt's."""
    for word in ("start", "end"):
        told = sorted(line.split()[1] for line in site.traced() if line.startswith(word))
        assert told == sorted(f"{job}.1" for job in jobs)
    for job in jobs:
        folder = site.returned(job)
        assert (folder / "stdout.log").read_text() == "started\nended\n"
        assert (folder / "attempt").read_text() == f"{job}.1"
        assert json.loads((folder / "result.json").read_text())["state"] == "done"
        assert not (folder / "attempts").exists()


def node_is_empty(site: Site) -> None:
    attempts = site.home / "node/attempts"
    with contextlib.suppress(AssertionError):
        until(lambda: not list(attempts.iterdir()), "nothing is left on the node")
    assert [entry.name for entry in attempts.iterdir()] == []
    assert [entry.name for entry in (site.spool / "returns").iterdir() if entry.name.startswith(".")] == []


def agents(site: Site) -> list[int]:
    """The processes that serve the controller."""
    children = f"/proc/{site.pid()}/task/*/children"
    found = [int(pid) for path in Path("/").glob(children[1:]) for pid in path.read_text().split()]
    return [pid for pid in found if is_alive(pid) and b"racksack_controller.sandbox" not in command_line(pid)]


def test_while_queued(site: Site, project: Path) -> None:
    site.start()
    site.cli("racksack", "drain", "here", "--reason", "test")
    jobs = [site.submit(project, "--", "0") for _ in range(3)]
    site.kill()
    site.start()
    assert [site.job(job)["state"] for job in jobs] == ["queued"] * 3
    site.kill()
    site.cli("racksack", "resume", "here")  # any command starts the controller again
    site.all_ended(3)
    ran_once(site, *jobs)


def test_while_staging(site: Site, project: Path) -> None:
    """The agent is frozen, so that it has been asked and never answers."""
    site.start()
    until(lambda: site.ask("nodes")[0]["state"] == "up", "the node is up")
    frozen = agents(site)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    job = site.submit(project, "--", "0")
    site.wait_for(job, "staging")
    site.kill()
    for pid in frozen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    site.start()
    site.wait_for(job, "done")
    ran_once(site, job)
    node_is_empty(site)


def test_while_preparing(site: Site) -> None:
    """A requirement whose build waits for a file."""
    go = site.root / "go"
    backend = f"""
import os, time, zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    while not os.path.exists({str(go)!r}): time.sleep(0.02)
    name = "slow-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("slow.py", "speed = 1\\n")
        wheel.writestr("slow-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: slow\\nVersion: 1.0\\n")
        wheel.writestr("slow-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("slow-1.0.dist-info/RECORD", "slow.py,,\\nslow-1.0.dist-info/METADATA,,\\nslow-1.0.dist-info/WHEEL,,\\nslow-1.0.dist-info/RECORD,,\\n")
    return name
"""  # noqa: E501
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    build += '[project]\nname = "slow"\nversion = "1.0"\n'
    project = projects.make(site.work / "p", "import slow\n" + projects.TRACED)
    (project / "slow").mkdir()
    (project / "slow/pyproject.toml").write_text(build)
    (project / "slow/backend.py").write_text(backend)
    (project / "requirements.txt").write_text("./slow\n")
    site.start()
    done = site.cli("submit", project, "main.py", "--parsable", *site.tracing, "--", "0")
    job = int(done.stdout)
    site.wait_for(job, "preparing")
    site.kill()
    site.start()
    assert site.wait_for(job, "preparing")
    site.kill()
    go.touch()
    site.start()
    site.wait_for(job, "done")
    ran_once(site, job)
    node_is_empty(site)


def test_while_running(make_site: MakeSite) -> None:
    """The node has been connected for longer than a silent one is waited for: that is not silence."""
    site = make_site(CONFIG + "defaults: {lost_after: 1s}\n")
    project = projects.make(site.work / "p", projects.TRACED)
    go = site.root / "go"
    site.start()
    jobs = [site.submit(project, "--", go) for _ in range(2)]
    for job in jobs:
        site.wait_for(job, "running")
    until(lambda: len(site.traced()) == 2, "both have begun")
    pids = {int(line.split()[2]) for line in site.traced()}
    before = {pid: started_at(pid) for pid in pids}
    for _ in range(2):
        site.kill()
        site.start()
        assert {pid: started_at(pid) for pid in pids} == before
        for job in jobs:
            assert site.wait_for(job, "running")["attempt"] == 1
    site.stop()
    assert {pid: started_at(pid) for pid in pids} == before
    go.touch()
    until(lambda: not any(map(is_alive, pids)), "both have ended while nobody looked")
    site.start()
    site.all_ended(2)
    ran_once(site, *jobs)
    node_is_empty(site)


def test_while_collecting(site: Site, project: Path) -> None:
    """A file stands where the return folder is received, so that it cannot be until it is gone."""
    go = site.root / "go"
    site.start()
    job = site.submit(project, "--", go)
    site.wait_for(job, "running")
    obstacle = site.spool / f"returns/.receiving-{job}.1"
    obstacle.touch()
    go.touch()
    site.wait_for(job, "collecting")
    until(lambda: "here" in site.cli("racksack", "why", job).stdout or True, "why answers")
    site.kill()
    assert not site.returned(job).exists()
    obstacle.unlink()
    site.start()
    site.wait_for(job, "done")
    ran_once(site, job)
    node_is_empty(site)


def test_while_removing(site: Site, project: Path) -> None:
    site.start()
    for _ in range(3):
        job = site.submit(project, "--", "0")
        until(lambda job=job: site.returned(job).exists(), "its folder is in place")
        site.kill()
        site.start()
        site.wait_for(job, "done")
    ran_once(site, 1, 2, 3)
    node_is_empty(site)


@pytest.mark.parametrize("seed", [1])
def test_at_random(make_site: MakeSite, seed: int) -> None:
    """Jobs are dropped all the while, and the controller is killed again and again wherever it happens to be."""
    site = make_site(CONFIG.replace("cpus: 8", "cpus: 6"))
    chance = random.Random(int(os.environ.get("RACKSACK_SEED", seed)))
    site.start()
    project = projects.make(site.work / "p", projects.TRACED)
    first = site.submit(project, "--", "0")
    digest = site.wait_for(first, "done")["snapshot"]
    count, kills = sized(20, 40), int(os.environ.get("RACKSACK_KILLS", sized("6", "12")))
    dropped = 0
    for _ in range(kills):
        for _ in range(count // kills + 1):
            if dropped < count:
                drop(site, digest, dropped, chance)
                dropped += 1
        time.sleep(chance.uniform(0.05, 1.0))  # the moment of the blow is the point: no condition is waited for
        with contextlib.suppress(ValueError, FileNotFoundError):
            site.kill()
        site.launch()
    site.answering()
    jobs = site.all_ended(count + 1)
    assert {job["state"] for job in jobs} == {"done"}, [
        (job["id"], job["state"], job["outcome_reason"]) for job in jobs
    ]
    assert sorted(job["name"] for job in jobs if job["id"] != first) == sorted(f"job-{n}" for n in range(count))
    ran_once_in_all(site, *(job["id"] for job in jobs))
    node_is_empty(site)
    assert not [entry for entry in (site.spool / "jobs").iterdir() if entry.is_file()]


def ran_once_in_all(site: Site, *jobs: int) -> None:
    """Each job's program began once and ended once. An attempt that was cut off before its supervisor began ran
    nothing, so a second one may have run in its place.
    """
    for word in ("start", "end"):
        told = sorted(int(line.split()[1].split(".")[0]) for line in site.traced() if line.startswith(word))
        assert told == sorted(jobs)
    for job in jobs:
        *cut_off, _last = site.job(job)["attempts"]
        assert {attempt["reason"] for attempt in cut_off} <= {"its supervisor never started"}, f"job {job}"


def drop(site: Site, digest: str, number: int, chance: random.Random) -> None:
    text = f"project: snapshot:{digest}\nentrypoint: main.py\nenvironment: none\nname: job-{number}\n"
    text += f"args: ['{chance.uniform(0, 0.6):.2f}']\nenv: {{TRACE: {site.trace}}}\nram: 64M\n"
    beside = site.spool / f"jobs/.{number}.new"
    beside.write_text(text)
    beside.rename(site.spool / f"jobs/{number}.yaml")


def test_agent_killed_while_a_job_runs(site: Site, project: Path) -> None:
    go = site.root / "go"
    site.start()
    job = site.submit(project, "--", go)
    site.wait_for(job, "running")
    until(site.traced, "it has begun")
    pid = int(site.traced()[0].split()[2])
    before = started_at(pid)
    for agent in agents(site):
        os.kill(agent, signal.SIGKILL)
    go.touch()
    site.wait_for(job, "done")
    assert before
    ran_once(site, job)
    node_is_empty(site)


def test_tmux_killed_while_a_job_runs(site: Site, project: Path) -> None:
    """The hang-up ends no job; the next one gets a new server."""
    go = site.root / "go"
    site.start()
    job = site.submit(project, "--", go)
    site.wait_for(job, "running")
    until(site.traced, "it has begun")
    servers = [pid for pid in site.processes() if Path(os.fsdecode(command_line(pid).split(b"\0")[0])).name == "tmux"]
    if not servers:
        pytest.skip("this node uses screen")
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(is_alive, servers)), "the server is gone")
    assert site.job(job)["state"] == "running"
    second = site.submit(project, "--", "0")
    site.wait_for(second, "done")
    go.touch()
    site.wait_for(job, "done")
    ran_once(site, job, second)


def test_a_supervisor_that_is_killed_is_replaced_and_the_job_goes_on(site: Site, project: Path) -> None:
    """The program lives through the death of its supervisor; another one takes over, and nothing runs twice."""
    go = site.root / "go"
    site.start()
    job = site.submit(project, "--", go)
    site.wait_for(job, "running")
    until(site.traced, "it has begun")
    program = int(site.traced()[0].split()[2])
    for supervisor in supervisors(site, f"{job}.1"):
        os.kill(supervisor, signal.SIGKILL)
    until(lambda: supervisors(site, f"{job}.1"), "another supervisor has taken over")
    assert is_alive(program)
    go.touch()
    site.wait_for(job, "done")
    assert [line.split()[:2] for line in site.traced()] == [["start", f"{job}.1"], ["end", f"{job}.1"]]
    assert (site.returned(job) / "attempt").read_text() == f"{job}.1"


def supervisors(site: Site, attempt: str) -> list[int]:
    """The processes that supervise an attempt of this site, by their title and where they work."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            title = (entry / "cmdline").read_bytes().split(b"\0")[:2] if entry.name.isdigit() else []
            is_ours = title == [b"racksack-supervisor", attempt.encode()]
            is_here = is_ours and (entry / "cwd").readlink().is_relative_to(site.root)
        except OSError:
            continue
        if is_here:
            found.append(int(entry.name))
    return found
