"""The example configurations of racks on real servers: only addresses, keys and waiting times are replaced.

Without RACKSACK_FULL_SIZE only the one behind a jump host: the drivers of the others are used by test_rack_power.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.power_rig import CONTROLLER, USUAL, PowerRig, node
from tests.end_to_end.rig import SPOOL
from tests.rack import ServerSpec
from tests.rack.fixtures import BuildRack
from tests.sizes import FULL

pytestmark = [pytest.mark.rack, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "racks"
# Which server of the rack plays which node of the example.
CAST = {
    "without-sensors": {"r1": "r1", "r2": "r2"},
    "without-bmcs": {"r1": "r1", "r2": "r2"},
    "behind-a-jump-host": {"r1": "far"},
    "behind-a-node": {"r1": "hop", "r2": "far"},
}


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[PowerRig]:
    gateway = ServerSpec("gateway", subnets=("a", "b"))
    hop, far = node("hop", subnets=("a", "b")), node("far", subnets=("b",))
    rig = PowerRig(build_module_rack(CONTROLLER, node("r1"), node("r2"), gateway, hop, far))
    rig.rack.up("controller", "gateway")
    rig.host.exec(["install", "-d", "-o", "racksack", "-g", "racksack", SPOOL], user="root")
    yield rig
    rig.close()


def played(rig: PowerRig, example: str) -> dict[str, Any]:
    """The example with the rack's addresses and keys, and short times."""
    config: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())
    real = rig.rack.nodes_config()
    config["web"] = {"listen": "off"}
    config["operators"] = ["ann"]
    config["group"] = "racksack"  # the rack's own
    nodes = {}
    for name, block in config["nodes"].items():
        server = CAST[example][name]
        way = real[server]["ssh"]
        if "jump" in block["ssh"]:
            jump = block["ssh"]["jump"]
            way["jump"] = CAST[example][jump] if isinstance(jump, str) else real["gateway"]["ssh"]
        block["ssh"] = {**block["ssh"], **way, "keepalive": "1s"}
        block["power"]["on"] = [real_driver(rig, example, server, driver) for driver in power_of(block)["on"]]
        block["power"] |= {**USUAL, **({"silence": "2s"} if "silence" in block["power"] else {})}
        nodes[server] = block
    return {**config, "nodes": nodes}


def power_of(block: dict[str, Any]) -> dict[str, Any]:
    """YAML 1.1 reads the keys `on` and `off` as true and false."""
    block["power"] = {{True: "on", False: "off"}.get(key, key): value for key, value in block["power"].items()}
    power: dict[str, Any] = block["power"]
    return power


def real_driver(rig: PowerRig, example: str, server: str, driver: dict[str, Any]) -> dict[str, Any]:
    [(kind, settings)] = driver.items()
    if kind == "wol":
        there = {"mac": rig.rack[server].mac, "broadcast": rig.rack[server].broadcast, "spacing": "0.2s"}
        if "jump" in settings:
            there["jump"] = CAST[example].get(settings["jump"], rig.rack["gateway"].address)
        return {"wol": {**settings, **there}}
    return {kind: {**settings, **rig.bmc(server, kind, **({"watts": 0.0} if kind == "ilo" else {}))[kind]}}


@pytest.mark.parametrize("example", CAST if FULL else ["behind-a-jump-host"])
def test_an_example_switches_its_servers_on_for_jobs_and_off_after_them(rig: PowerRig, example: str) -> None:
    rig.began_s = max([event.time_s for event in rig.rack.events()], default=0.0) + 1e-6
    rig.install(played(rig, example))
    servers = list(CAST[example].values())
    rig.start()
    try:
        project = rig.project("quick", "import time\ntime.sleep(1)\n")
        wishes = [{"nodes": [name], "cpus": 1, "ram": "200M", "name": f"{example}-{name}"} for name in servers]
        rig.ended(rig.submit_all([(project, wish) for wish in reversed(wishes)]))
        rig.all_off(*servers)
        assert sorted(rig.booted()) == sorted(servers)
        report = rig.ask("energy?since_s=0")
        assert {one["node"] for one in report["nodes"] if one["is_estimate"]} >= set(servers)
        assert rig.rack["gateway"].running
        if example == "behind-a-node":
            assert_the_way_outlasts_what_lies_behind_it(rig)
            assert_an_operator_switches_the_way_off_with_what_lies_behind_it(rig)
    finally:
        rig.close()


def assert_the_way_outlasts_what_lies_behind_it(rig: PowerRig) -> None:
    """Only the node behind is needed: the one before it comes on first and goes off last, by the rack's own record."""
    rig.began_s = max(event.time_s for event in rig.rack.events()) + 1e-6
    wish = {"nodes": ["far"], "cpus": 1, "ram": "200M", "name": "behind"}
    rig.ended(rig.submit_all([("quick", wish)]))
    rig.all_off("hop", "far")
    switched = [(event.server, event.event) for event in rig.events() if event.event in ("power-on", "off")]
    assert switched == [("hop", "power-on"), ("far", "power-on"), ("far", "off"), ("hop", "off")]


def assert_an_operator_switches_the_way_off_with_what_lies_behind_it(rig: PowerRig) -> None:
    """Not while a job runs behind it, unless by force; the job is queued again and has both switched on once more."""
    rig.began_s = max(event.time_s for event in rig.rack.events()) + 1e-6
    job = rig.submit_traced("forced", ["far"], "/home/racksack/go-forced")
    rig.wait_for(job, "running")
    refused = rig.cli("racksack", "power", "off", "hop", code=5)
    assert f"far, which is reached through hop, is busy with job {job}" in refused.stderr
    told = rig.cli("racksack", "power", "off", "hop", "--force").stdout
    assert "will be switched off when far is off, reached through it" in told
    (rig.rack["far"].home() / "go-forced").touch()
    assert rig.ended([job])[0]["attempt"] == 2
    rig.all_off("hop", "far")
    switched = [(event.server, event.event) for event in rig.events() if event.event in ("power-on", "off")]
    assert switched == 2 * [("hop", "power-on"), ("far", "power-on"), ("far", "off"), ("hop", "off")]
