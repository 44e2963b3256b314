"""Servers that are off come on for a queue and go off after it: real drivers, real servers, the rack as the witness."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.power_rig import CONTROLLER, IDLE_OFF_S, SPOOL, PowerRig, node
from tests.end_to_end.site import until
from tests.rack.fixtures import BuildRack

pytestmark = [pytest.mark.rack, pytest.mark.timeout(300)]

SIZES: dict[str, dict[str, Any]] = {
    "r1": {"cpus": 8, "ram": "8G"},
    "r2": {"cpus": 4, "ram": "8G"},
    "r3": {"cpus": 4, "ram": "4G"},
    "r4": {"cpus": 4, "ram": "4G"},
    "r5": {"cpus": 4, "ram": "4G"},
    "r6": {"cpus": 2, "ram": "2G"},
    "r7": {"cpus": 2, "ram": "2G"},
}


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[PowerRig]:
    rig = PowerRig(build_module_rack(CONTROLLER, *(node(name) for name in SIZES)))
    rig.configure(
        {
            "r1": {
                "on": [rig.bmc("r1", "redfish", watts=150, watts_off=9)],
                "off": ["ssh", "redfish"],
                "hard_off": True,
            },
            "r2": {"on": [rig.bmc("r2", "ipmi")], "off": ["ipmi"], "hard_off": True, "watts": {"idle": 60, "max": 140}},
            "r3": {"on": [rig.bmc("r3", "ilo")], "off": ["ilo"], "hard_off": True},
            "r4": {"on": [rig.wol("r4")], "off": ["ssh"], "silence": "2s", "watts": {"idle": 40, "max": 90}},
            "r5": {"on": [rig.outlet("r5")], "off": ["ssh", "command"], "hard_off": True},
            "r6": {"on": [rig.wol("r6")], "off": ["ssh"], "silence": "2s"},
            "r7": {"on": [rig.wol("r7")], "off": ["ssh"], "silence": "2s"},
        },
        SIZES,
    )
    with rig.running():
        yield rig


def wishes() -> list[dict[str, Any]]:
    """40 mixed jobs. One on each of r1 to r5 says that it must run there, so that every driver is needed."""
    pinned = [{"nodes": [f"r{number}"], "cpus": 2, "ram": "1G"} for number in range(1, 6)]
    kinds = [{"cpus": 0.25, "ram": "200M"}, {"cpus": 0.5, "ram": "500M"}, {"cpus": 0.4, "ram": "400M"}]
    return pinned + [dict(kinds[number % len(kinds)]) for number in range(35)]


def fewest_servers(asked: list[dict[str, Any]]) -> int:
    """How few servers hold all of them at once: every set of servers is tried, smallest first (exact, by hand)."""
    pinned = {wish["nodes"][0] for wish in asked if "nodes" in wish}
    cpus, ram = sum(wish["cpus"] for wish in asked), sum(_gigabytes(wish["ram"]) for wish in asked)
    for count in range(1, len(SIZES) + 1):
        for chosen in itertools.combinations(SIZES, count):
            room = sum(SIZES[name]["cpus"] for name in chosen), sum(_gigabytes(SIZES[name]["ram"]) for name in chosen)
            if pinned <= set(chosen) and room[0] >= cpus and room[1] >= ram:
                return count
    return len(SIZES)


def _gigabytes(text: str) -> float:
    return float(text[:-1]) / (1024 if text.endswith("M") else 1)


def test_40_jobs_wake_no_more_servers_than_they_need_and_leave_all_off(rig: PowerRig) -> None:
    rig.all_off()
    project = rig.project("sleeps", "import sys, time\ntime.sleep(float(sys.argv[1]))\n")
    asked = wishes()
    jobs = [(project, {**wish, "args": ["0.5"], "name": f"job-{number}"}) for number, wish in enumerate(asked)]
    ids = rig.submit_all(jobs)
    done = rig.ended(ids)
    assert len(done) == 40
    booted = rig.booted()
    assert sorted(booted) == sorted(set(booted)), "none is switched on twice"
    assert len(booted) <= fewest_servers(asked)
    assert set(booted) == {"r1", "r2", "r3", "r4", "r5"}
    rig.all_off()
    how = {(event.server, event.event, event.detail) for event in rig.events()}
    by = {server: detail for server, event, detail in how if event == "power-on" and server in SIZES}
    assert by == {"r1": "redfish", "r2": "ipmi", "r3": "ilo", "r4": "wake-on-LAN", "r5": "outlet"}
    assert ("r4", "off", "from inside") in how  # over ssh
    assert ("r2", "power-button", "ipmi") in how
    assert ("r3", "power-button", "ilo") in how
    assert not [event for event in rig.events() if event.event == "power-cut" and event.server != "r5"]
    for name in booted:
        off_at = next(event.time_s for event in rig.events(name) if event.event == "off")
        last = max(job["ended_at_s"] for job in done if job["node"] == name)
        assert off_at >= last + IDLE_OFF_S - 0.5, name


def test_by_hand_held_and_rehearsed(rig: PowerRig) -> None:
    rig.cli("racksack", "power", "on", "r1", "--wait")
    rig.cli("racksack", "power", "hold", "r1", "--for", "1h", "--reason", "an evening's work")
    project = rig.project("long", "import time\ntime.sleep(120)\n")
    job = rig.submit_all([(project, {"nodes": ["r1"], "cpus": 1, "ram": "200M", "name": "long"})])[0]
    rig.wait_for(job, "running")
    refused = rig.cli("racksack", "power", "off", "r1", code=5)
    assert f"busy with job {job}" in refused.stderr
    check = ["racksack", "node", "check", "r1", "--config", "/etc/racksack.yaml"]
    assert "an empty node" in rig.cli(*check, "--rehearse", user="racksack", code=5).stdout
    rig.cli("racksack", "cancel", job)
    rig.wait_for(job, "cancelled")
    until(lambda: not rig.ask("nodes/r1")["jobs"], "nothing is left of it")
    assert rig.rack["r1"].running, "it is held"
    before = [event.event for event in rig.events("r1")].count("power-on")
    told = rig.cli(*check, "--rehearse", user="racksack", timeout_s=120).stdout
    assert "ForceOff" in told  # what its BMC allows
    assert "ok       rehearsal off after" in told
    assert [event.event for event in rig.events("r1")].count("power-on") == before + 1
    assert rig.ask("nodes/r1")["power"]["boots"] >= 2  # measured, and remembered
    assert rig.ask("nodes/r1")["draining_reason"] is None
    rig.cli("racksack", "power", "release", "r1")
    rig.cli("racksack", "drain", "r1", "--reason", "new disk", "--then-off")
    rig.all_off("r1")
    found = {one["what"]: one for one in json.loads(rig.cli("racksack", "doctor", "r1", "--json").stdout)}
    assert found["r1"]["verdict"] == "ok", found  # off is no fault
    assert found["r1"]["sentence"].startswith("off for ")
    assert (found["r1 reach"]["verdict"], "it is off" in found["r1 reach"]["sentence"]) == ("warning", True)
    assert any("ForceOff" in one["sentence"] for one in found.values())
    assert rig.ask("nodes/r1")["draining_reason"] is not None
    rig.cli("racksack", "resume", "r1")


def test_energy_is_known_of_nodes_and_jobs(rig: PowerRig) -> None:
    report = json.loads(rig.cli("racksack", "energy", "--json").stdout)
    nodes = {one["node"]: one for one in report["nodes"]}
    assert nodes["r1"]["measured_kwh"] > 0  # its Redfish has a sensor, first asked once it is on
    assert nodes["r4"]["is_estimate"]
    assert nodes["r4"]["measured_kwh"] == 0
    assert nodes["r6"]["kwh"] == 0
    assert nodes["r6"]["always_on_kwh"] > 0
    used = sum(one["kwh"] for one in report["jobs"])
    assert 0 < used <= report["total"]["kwh"]
    assert report["total"]["jobs_kwh"] == pytest.approx(used, rel=1e-6)
    job = rig.ask(f"jobs/{report['jobs'][0]['job']}")
    assert job["energy"]["kwh"] == pytest.approx(report["jobs"][0]["kwh"])
    result = json.loads((rig.returned(job["id"]) / "result.json").read_text())
    assert result["energy"]["kwh"] > 0
    assert "energy" in rig.cli("racksack", "status", job["id"]).stdout


def test_no_password_is_seen_anywhere(rig: PowerRig) -> None:
    secret = rig.bmcs["r1"].password
    strangers = rig.host.exec(["curl", "-s", "http://127.0.0.1:8470/nodes/r1"]).stdout
    assert "r1" in strangers
    operators = rig.host.exec(["curl", "-s", "--unix-socket", f"{SPOOL}/controller.sock", "http://x/nodes/r1"]).stdout
    assert "redfish" in operators
    seen = strangers + operators + rig.story() + json.dumps(rig.ask("nodes")) + json.dumps(rig.ask("status"))
    seen += "".join(path.read_text() for path in rig.rack.directory.glob("racksack-*.log"))
    seen += rig.host.exec(["ps", "-eo", "args"], user="root").stdout
    assert secret not in seen


def test_servers_join_and_leave_a_sweep(rig: PowerRig) -> None:
    """It wakes servers, one is taken from it in the middle, no point is lost or computed twice, and all go off."""
    rig.all_off()
    before = len(rig.booted())
    project = rig.project("points", "import time\n\n\ndef f(x):\n    time.sleep(0.1)\n    return {'square': x * x}\n")
    ran = ["racksack", "sweep", "run", project, "main.py:f", "--param", "x=1:800:1", "--metric", "square:max", "--yes"]
    rig.cli(*ran, "--cpus", "2", "--ram", "200M", "--no-venv", "--chunk-target", "1s", "--max-runners", "6")
    sweep = max(one["id"] for one in rig.ask("sweeps"))

    def seen() -> Any:
        return rig.ask(f"sweeps/{sweep}")

    def at_work() -> list[str]:
        return [one["node"] for one in seen()["nodes"] if one["workers"]]

    until(lambda: len(at_work()) > 1 and seen()["done"] > 20, "servers have joined", 60)
    taken = at_work()[0]
    rig.cli("racksack", "power", "off", taken, "--force")
    rig.all_off(taken)
    until(lambda: seen()["state"] == "done", "the sweep is done", 90)
    assert (seen()["done"], seen()["failed"]) == (800, 0)
    best = json.loads(rig.cli("racksack", "sweep", "top", sweep, "-n", "800", "--json").stdout)["rows"]
    assert [row["params"]["x"] for row in best] == list(range(800, 0, -1))
    assert len(set(rig.booted()[before:])) > 1
    rig.all_off()
