"""A laptop, a controller with a shared spool and three nodes: mixed jobs, cut connections, power cuts, two users."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import projects
from tests.end_to_end.rig import BIN, SERVERS, SIZES, SPOOL, Rig, python_path, running
from tests.end_to_end.site import until
from tests.rack.fixtures import BuildRack
from tests.sizes import sized

pytestmark = [pytest.mark.rack, pytest.mark.timeout(300)]

# Runs on the laptop: one process with the Python API, as a person's script would.
SUBMIT = """
import json, sys, racksack
print(json.dumps([racksack.submit(p, "main.py", **wish).id for p, wish in json.load(sys.stdin)]))
"""


def stamped(script: str) -> str:
    """The same program, which also leaves when and where it ran, for the observer."""
    begin = "import atexit, json, os, pathlib, time\n_began = time.time()\n"
    begin += "def _stamp():\n    out = os.environ['RACKSACK_RETURN_DIR']\n"
    begin += (
        "    facts = {k: os.environ.get(k, '') for k in ('RACKSACK_NODE', 'RACKSACK_GPU_UUIDS', 'RACKSACK_ATTEMPT')}\n"
    )
    begin += (
        "    pathlib.Path(out, 'stamp.json').write_text(json.dumps({**facts, 'began': _began, 'ended': time.time()}))\n"
    )
    return begin + "atexit.register(_stamp)\n" + script


def wheel() -> bytes:
    """A tiny package, so that no index is needed."""
    files = {
        "tinything.py": "word = 'tiny'\n",
        "tinything-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinything\nVersion: 1.0\n",
        "tinything-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for name, text in files.items()
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in {**files, "tinything-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return stream.getvalue()


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[Rig]:
    with running(build_module_rack(*SERVERS)) as one:
        yield one


def put(rig: Rig, project: Path, user: str = "ann") -> str:
    """A project in a user's home on the laptop; its name there."""
    home = rig.laptop.home(user)
    uid = rig.laptop.uid(user)
    subprocess.run(["cp", "-a", str(project), str(home / project.name)], check=True)
    subprocess.run(["chown", "-R", f"{uid}:{uid}", str(home / project.name)], check=True)
    return project.name


def wishes() -> list[dict[str, Any]]:
    """Mixed requests, each with the arguments of MIXED."""
    kinds: list[dict[str, Any]] = [
        {"cpus": 1, "ram": "1G"},
        {"cpus": 0.5, "ram": "300M"},
        {"cpus": 3, "ram": "2G"},
        {"cpus": 2, "ram": "3G", "labels": ["big"]},
        {"cpus": 1, "ram": "1G", "gpus": 1},
        {"cpus": 6, "ram": "5G"},
    ]
    found = []
    for number in range(sized(36, 60)):
        size = (0, 40_000, 300_000)[number % 3]
        code = 3 if number % 10 == 9 else 0
        args = [f"job {number}", str(number), str(size), f"{0.1 + (number % 5) / 8:.2f}", str(code)]
        found.append({"name": f"mixed-{number}", "args": args, **kinds[number % len(kinds)]})
    return found


def test_doctor_from_a_laptop_of_somebody_who_is_no_operator(rig: Rig) -> None:
    found = json.loads(rig.cli("racksack", "doctor", "r2", "--json").stdout)
    told = {(one["part"], one["what"]): one for one in found}
    assert told["client", "login"]["verdict"] == told["client", "connection"]["verdict"] == "ok"
    for node in SIZES:
        assert told["nodes", node]["sentence"].startswith("up for"), found
    [refused] = [one for one in found if one["verdict"] == "not_looked_at"]
    assert (refused["part"], refused["what"]) == ("nodes", "r2 check")
    assert "only an operator" in refused["sentence"]


def test_only_an_operator_is_shown_what_is_wrong_in_the_configuration(rig: Rig) -> None:
    path = "/etc/racksack.yaml"
    before = rig.host.exec(["cat", path]).stdout
    rig.host.install(path, before + "secret: 4711\n")
    try:
        others = rig.cli("racksack", "doctor", "--json", code=1).stdout
        argv = [str(BIN / "racksack"), "doctor", "--controller", SPOOL, "--json"]
        operators = rig.host.exec(argv, user="racksack", env=python_path(), check=False).stdout
    finally:
        rig.host.install(path, before)
    assert "racksack.yaml has a mistake" in others
    assert "secret" not in others
    assert "secret" in operators


def test_mixed_jobs(rig: Rig, tmp_path: Path) -> None:
    plain = projects.make(tmp_path / "plain", stamped(projects.MIXED), data__input=b"")
    (plain / "data/input.bin").write_bytes(bytes(range(256)) * 64)
    tiny = tmp_path / "tiny"
    subprocess.run(["cp", "-a", str(plain), str(tiny)], check=True)
    (tiny / "main.py").write_text(
        "import tinything\nassert tinything.word == 'tiny'\n" + (plain / "main.py").read_text()
    )
    (tiny / "wheels").mkdir()
    (tiny / "wheels/tinything-1.0-py3-none-any.whl").write_bytes(wheel())
    (tiny / "requirements.txt").write_text("./wheels/tinything-1.0-py3-none-any.whl\n")
    names = [put(rig, plain), put(rig, tiny)]
    asked = [(names[number % 3 == 0], wish) for number, wish in enumerate(wishes())]

    began = time.monotonic()
    with rig.laptop.popen(
        [sys.executable, "-c", SUBMIT],
        env={"RACKSACK_CONTROLLER": "controller", **_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate(json.dumps(asked), timeout=120)
    assert process.returncode == 0, err
    ids = json.loads(out)
    print(f"submitted after {time.monotonic() - began:.1f} s")
    done = rig.cli("racksack", "wait", *ids, code=None, timeout_s=200)
    print(f"ended after {time.monotonic() - began:.1f} s")
    assert done.returncode in (8, 10), done.stderr  # some of them end with code 3
    rig.cli("fetch-results", "-o", "got", timeout_s=120)
    print(f"fetched after {time.monotonic() - began:.1f} s")

    got = rig.laptop.home("ann") / "got"
    (tmp_path / "hand").mkdir()
    spans = []
    for job_id, (_name, wish) in zip(ids, asked, strict=True):
        folder = got / f"{job_id}-{wish['name']}"
        result = json.loads((folder / "result.json").read_text())
        assert result["state"] == ("failed" if wish["args"][4] == "3" else "done"), (result, rig.log())
        found = projects.results(folder)
        stamp = json.loads((folder / "stamp.json").read_text())
        spans.append((stamp, wish))
        del found["stamp.json"]
        scratch = tmp_path / "hand" / str(job_id)
        scratch.mkdir()
        expected = projects.by_hand(plain, scratch, *[*wish["args"][:3], "0", wish["args"][4]])
        del expected["stamp.json"]
        assert found == expected, job_id
    assert {stamp["RACKSACK_NODE"] for stamp, _ in spans} == set(SIZES)
    never_over_committed(spans)


def _path() -> dict[str, str]:
    from tests.end_to_end.rig import python_path

    return dict(python_path())


def gigabytes(text: str) -> float:
    return float(text[:-1]) * (1 / 1024 if text.endswith("M") else 1)


def never_over_committed(spans: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """At no instant do the jobs that ran on a node sum to more than it has for jobs."""
    events = defaultdict(list)
    for stamp, wish in spans:
        held = (
            wish["cpus"],
            gigabytes(wish["ram"]),
            1,
            frozenset(filter(None, stamp["RACKSACK_GPU_UUIDS"].split(","))),
        )
        assert len(held[3]) == (1 if "gpus" in wish else 0)
        events[stamp["RACKSACK_NODE"]] += [(stamp["began"], 1, held), (stamp["ended"], -1, held)]
    for node, timeline in events.items():
        size = SIZES[node]
        reserve = size.get("reserve", {"cpus": 0, "ram": "0G"})
        room = (
            size["cpus"] - reserve["cpus"],
            gigabytes(size["ram"]) - gigabytes(reserve["ram"]),
            size.get("max_jobs", 999),
        )
        used, devices = [0.0, 0.0, 0], set()
        for _at, sign, (cpus, ram, count, gpus) in sorted(timeline, key=lambda event: event[:2]):
            used = [used[0] + sign * cpus, used[1] + sign * ram, used[2] + sign * count]
            assert all(got <= limit + 1e-9 for got, limit in zip(used, room, strict=True)), (node, used, room)
            assert sign < 0 or not devices & gpus, (node, devices, gpus)
            devices = devices | gpus if sign > 0 else devices - gpus


@pytest.fixture(scope="module")
def waits(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A project on the laptop whose job traces its start in a file on the node, and ends when another is there."""
    return put(rig, projects.make(tmp_path_factory.mktemp("p") / "waits", projects.TRACED))


def begin_on(rig: Rig, waits: str, *nodes: str, name: str) -> tuple[int, str]:
    """A job that runs on the first of these nodes, and where."""
    trace, go = f"/home/racksack/trace-{name}", f"/home/racksack/go-{name}"
    options = [word for node in nodes for word in ("--node", node)]
    job = rig.submit(waits, "--name", name, "--env", f"TRACE={trace}", *options, "--", go)
    node = rig.wait_for(job, "running")["node"]
    until(lambda: trace_on(rig, node, name), "it has begun")
    return job, node


def trace_on(rig: Rig, node: str, name: str) -> list[list[str]]:
    path = rig.rack[node].home() / f"trace-{name}"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def node_states(rig: Rig) -> dict[str, str]:
    return {one["name"]: one["state"] for one in json.loads(rig.cli("racksack", "nodes", "--json").stdout)}


def let_go(rig: Rig, node: str, name: str) -> None:
    (rig.rack[node].home() / f"go-{name}").touch()


def test_controller_killed_while_jobs_run_everywhere(rig: Rig, waits: str) -> None:
    jobs = [begin_on(rig, waits, node, name=f"kill-{node}") for node in SIZES]
    pids = {node: trace_on(rig, node, f"kill-{node}")[0][2] for node in SIZES}
    rig.kill()
    let_go(rig, "r1", "kill-r1")
    until(lambda: len(trace_on(rig, "r1", "kill-r1")) == 2, "one ends while there is no controller")
    rig.start()
    seen = [rig.job(job) for job, node in jobs if node != "r1"]
    assert [job["state"] for job in seen] == ["running", "running"], (seen, rig.log())
    for _job, node in jobs:
        let_go(rig, node, f"kill-{node}")
    for job, node in jobs:
        rig.wait_for(job, "done", attempt=1)
        assert [line[:3] for line in trace_on(rig, node, f"kill-{node}")] == [
            ["start", f"{job}.1", pids[node]],
            ["end", f"{job}.1", pids[node]],
        ]
        assert (rig.returned(job) / "attempt").read_text() == f"{job}.1"


@pytest.mark.parametrize("node", ["r3", "r2"])
def test_job_ends_while_its_node_is_cut_off(rig: Rig, waits: str, node: str) -> None:
    """r2 is cut off by cutting the host that one jumps through."""
    name = f"cut-{node}"
    job, _node = begin_on(rig, waits, node, name=name)
    cut = rig.rack["r1" if node == "r2" else node]
    cut.partition()
    try:
        let_go(rig, node, name)
        until(lambda: len(trace_on(rig, node, name)) == 2, "it has ended")
        until(lambda: node_states(rig)[node] == "unreachable", "the cut is noticed", 40)
        assert rig.job(job)["state"] == "running"
    finally:
        cut.heal()
    rig.wait_for(job, "done", attempt=1)
    assert (rig.returned(job) / "stdout.log").read_text() == "started\nended\n"


def test_node_that_comes_back_too_late_is_fenced(rig: Rig, waits: str) -> None:
    """The old attempt is killed and none of its results are taken."""
    job, node = begin_on(rig, waits, "r1", "r3", name="late")
    other = {"r1": "r3", "r3": "r1"}[node]
    rig.rack[node].partition()
    try:
        rig.wait_for(job, "running", attempt=2, timeout_s=90)
        assert rig.job(job)["node"] == other
        until(lambda: trace_on(rig, other, "late"), "the second attempt has begun")
        pid = trace_on(rig, node, "late")[0][2]
    finally:
        rig.rack[node].heal()
    gone = ["sh", "-c", f"kill -0 {pid}"]
    until(lambda: rig.rack[node].exec(gone, check=False).returncode != 0, "the old attempt is killed", 60)
    assert rig.job(job)["state"] == "running"
    let_go(rig, other, "late")
    rig.wait_for(job, "done", attempt=2)
    assert (rig.returned(job) / "attempt").read_text() == f"{job}.2"
    assert not (rig.returned(job) / "attempts").exists()
    attempts = next((rig.rack[node].home() / ".racksack").glob("*/attempts"))
    until(lambda: not [entry for entry in attempts.iterdir() if entry.name == f"{job}.1"], "it is removed there")


def test_power_cut_in_mid_job(rig: Rig, waits: str) -> None:
    job, node = begin_on(rig, waits, "r2", "r3", name="power")
    other = {"r2": "r3", "r3": "r2"}[node]
    rig.rack[node].power_cut()
    rig.wait_for(job, "running", attempt=2, timeout_s=90)
    assert rig.job(job)["node"] == other
    rig.rack[node].power_on()
    rig.rack[node].wait_up()
    until(lambda: set(node_states(rig).values()) == {"up"}, "it is back", 90)
    assert rig.job(job)["attempt"] == 2
    let_go(rig, other, "power")
    rig.wait_for(job, "done", attempt=2)
    assert (rig.returned(job) / "attempt").read_text() == f"{job}.2"
    assert [line[0] for line in trace_on(rig, node, "power")] == ["start"]


@pytest.fixture(scope="module")
def meets(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A project on the laptop whose ranks meet over TCP, trace their start and wait for a file each."""
    return put(rig, projects.make(tmp_path_factory.mktemp("g") / "meets", projects.RENDEZVOUS))


def begin_gang(rig: Rig, meets: str, name: str) -> int:
    """A gang on the two servers of one subnet, once its ranks have met."""
    options = ["--nodes", 2, "--node", "r1", "--node", "r3", "--env", f"TRACE=/home/racksack/trace-{name}"]
    job = rig.submit(meets, "--name", name, *options, "--", f"/home/racksack/go-{name}")
    has_met(rig, job, 1)
    return job


def has_met(rig: Rig, job: int, attempt: int) -> None:
    """Every rank of this attempt has printed whom it met."""
    rig.wait_for(job, "running", attempt=attempt, timeout_s=90)
    for rank in (0, 1):
        logs = ["racksack", "logs", job, "--rank", rank]
        until(lambda argv=logs: "met" in rig.cli(*argv).stdout, f"rank {rank} of job {job} has met the other", 30)


def came_back(rig: Rig, job: int, attempt: int) -> None:
    rig.wait_for(job, "done", attempt=attempt)
    folder = rig.returned(job)
    result = json.loads((folder / "result.json").read_text())
    assert result["attempt"] == attempt
    first, second = (rank["node"] for rank in result["ranks"])
    assert {first, second} == {"r1", "r3"}
    assert (folder / "stdout.log").read_text() == f"rank 0 met {second}\n"
    assert (folder / "rank-1/stdout.log").read_text() == f"rank 1 met {first}\n"


def test_a_gang_meets_over_the_network_and_outlives_its_controller(rig: Rig, meets: str) -> None:
    job = begin_gang(rig, meets, "gang")
    rig.kill()
    let_go(rig, "r3", "gang")
    until(lambda: len(trace_on(rig, "r3", "gang")) == 2, "one rank ends while there is no controller")
    rig.start()
    assert rig.job(job)["state"] == "running", rig.log()
    let_go(rig, "r1", "gang")
    came_back(rig, job, 1)


def test_power_cut_of_one_node_in_mid_gang(rig: Rig, meets: str) -> None:
    """The rank that is left is ended, and the gang runs again when both nodes are there."""
    job = begin_gang(rig, meets, "cutgang")
    rig.rack["r3"].power_cut()
    rig.wait_for(job, "queued", timeout_s=90)
    attempts = next((rig.rack["r1"].home() / ".racksack").glob("*/attempts"))
    until(lambda: not [one for one in attempts.iterdir() if one.name.startswith(f"{job}.1")], "r1 is clean", 30)
    rig.rack["r3"].power_on()
    rig.rack["r3"].wait_up()
    has_met(rig, job, 2)
    for node in ("r1", "r3"):
        let_go(rig, node, "cutgang")
    came_back(rig, job, 2)
    assert sorted(line[1:] for node in ("r1", "r3") for line in trace_on(rig, node, "cutgang") if line[0] == "end") == [
        ["0", f"{job}.2"],
        ["1", f"{job}.2"],
    ]


def test_users_cannot_reach_each_others_work(rig: Rig, waits: str, tmp_path: Path) -> None:
    """ann's job, and bob with everything that a shell on the controller's host allows him."""
    secret = projects.make(tmp_path / "secret", "print('ann knows 4711')\n" + projects.TRACED)
    job = rig.submit(put(rig, secret), "--name", "secret", "--node", "r3", "--env", "TRACE=/home/racksack/trace-secret",
                     "--env", "TOKEN=hush", "--", "/home/racksack/go-secret")  # fmt: skip
    rig.wait_for(job, "running")
    assert rig.job(job)["owner"] == "ann"
    for argv in (["cancel", job], ["retry", job], ["hold", job], ["attach", job]):
        done = rig.cli("racksack", *argv, user="bob", code=None)
        assert done.returncode != 0, argv
        assert "ann" in done.stderr or "yours" in done.stderr or "belongs" in done.stderr, done.stderr
    logs = rig.cli("racksack", "logs", job, user="bob", code=None)
    assert "4711" not in logs.stdout + logs.stderr
    assert logs.returncode != 0
    story = rig.cli("racksack", "status", job, "--json", user="bob", code=None)
    assert "hush" not in story.stdout
    assert rig.job(job)["state"] == "running"
    let_go(rig, "r3", "secret")
    rig.wait_for(job, "done")

    fetched = rig.cli("fetch-results", job, "-o", "stolen", user="bob", code=None)
    assert fetched.returncode != 0
    assert not list((rig.laptop.home("bob")).glob("stolen/*/stdout.log"))
    look = f"""
        cd {SPOOL}
        cat returns/{job}/stdout.log; ls returns/{job}; ls returns; ls incoming; ls jobs; ls snapshots; ls projects
        cat projects/{job}/main.py; cat racksack.db; ls jobs/rejected
        find . -type f -readable -exec cat {{}} +
        true
    """
    seen = rig.host.exec(["sh", "-c", look], user="bob", check=False)
    assert "4711" not in seen.stdout
    assert seen.stdout.strip() == "", seen.stdout[:500]

    rig.cli("fetch-results", job, "-o", "mine")
    assert "4711" in (rig.laptop.home("ann") / f"mine/{job}-secret/stdout.log").read_text()
    refer = f"project: snapshot:{rig.job(job)['snapshot']}\nentrypoint: main.py\nenvironment: none\nowner: ann\n"
    drop = ["sh", "-c", f"cat > {SPOOL}/jobs/.x && mv {SPOOL}/jobs/.x {SPOOL}/jobs/thief.yaml"]
    rig.host.exec(drop, user="bob", stdin=refer.replace("owner: ann\n", ""))
    error = rig.host.disk / f"upper{SPOOL}/jobs/rejected/thief.yaml.error"
    until(error.exists, "the thief is refused")
    assert "snapshot" in error.read_text() or "content" in error.read_text()


def test_two_users_may_choose_the_same_submission_key(rig: Rig, waits: str) -> None:
    put(rig, rig.laptop.home("ann") / waits, "bob")
    options = ["--submission-key", "nightly", "--env", "TRACE=/home/racksack/trace-key"]
    first = rig.submit(waits, *options, "--", "0", user="ann")
    second = rig.submit(waits, *options, "--", "0", user="bob")
    again = rig.submit(waits, *options, "--", "0", user="ann")
    assert first == again != second
    assert [rig.job(job)["owner"] for job in (first, second)] == ["ann", "bob"]
    for job in (first, second):
        rig.wait_for(job, "done")
