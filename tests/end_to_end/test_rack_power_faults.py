"""What goes wrong with power on real servers: nothing is lost, stays on idle or is stuck, and `why` says it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.power_rig import CONTROLLER, PowerRig, node
from tests.end_to_end.site import until
from tests.rack.fixtures import BuildRack

FULL = bool(os.environ.get("RACKSACK_FULL_SIZE"))
SLOW_S = 30.0 if FULL else 1.5  # for each answer of r1's BMC

pytestmark = [pytest.mark.rack, pytest.mark.timeout(900 if FULL else 300)]

SIZE = {"cpus": 2, "ram": "2G"}
NAMES = ("r1", "r2", "r3", "r4", "r5", "r6")


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[PowerRig]:
    rig = PowerRig(build_module_rack(CONTROLLER, *(node(name, boot_delay_s=1.5) for name in NAMES)))
    ipmi = rig.bmc("r2", "ipmi")
    rig.bmcs["r2"].set_password("changed-behind-our-back")
    rig.configure(
        {
            "r1": {
                "on": [rig.bmc("r1", "redfish", slow_s=SLOW_S, already_400=True)],
                "off": ["redfish"],
                "hard_off": True,
            },
            "r2": {"on": [ipmi, rig.wol("r2")], "off": ["ssh"], "silence": "2s"},
            "r3": {"on": [rig.bmc("r3", "ilo")], "off": ["ssh", "ilo"], "hard_off": True, "boot_timeout": "6s"},
            "r4": {"on": [rig.wol("r4")], "off": ["ssh"], "silence": "2s"},
            "r5": {"on": [rig.outlet("r5")], "off": ["ssh", "command"], "hard_off": True},
            "r6": {"on": [rig.wol("r6")], "off": ["ssh"], "silence": "2s", "off_grace": "10m"},
        },
        dict.fromkeys(NAMES, SIZE),
        idle_off="2s",
    )
    with rig.running():
        yield rig


def test_jobs_get_done_whatever_is_wrong_with_the_way_to_their_server(rig: PowerRig) -> None:
    rig.rack["r3"].set_faults(no_ssh=True)
    rig.rack["r4"].set_faults(magic_packets_ignored=2)
    late = rig.submit_traced("late", ["r1"])
    wrong_password = rig.submit_traced("password", ["r2"])
    no_ssh = rig.submit_traced("nossh", ["r3", "r5"])
    lost_packets = rig.submit_traced("packets", ["r4"])
    rig.ended([late, wrong_password, no_ssh, lost_packets], timeout_s=120.0 + 10 * SLOW_S)
    assert rig.count("r2", "power-on") == 1
    assert "wake-on-LAN" in [event.detail for event in rig.events("r2")]
    assert [event.event for event in rig.events("r4")][:4] == [
        "magic-dropped",
        "magic-dropped",
        "magic-packet",
        "power-on",
    ]
    assert "refused" in rig.story()
    rig.bmcs["r1"].set_faults(already_400=True)  # restarted, and quick: it knows of no session any more
    rig.all_off("r1", timeout_s=60.0 + 10 * SLOW_S)


def test_a_server_that_comes_up_without_ssh_is_switched_off_and_set_aside_until_it_is_mended(rig: PowerRig) -> None:
    rig.rack["r3"].set_faults(no_ssh=True)
    job = rig.submit_traced("mended", ["r3"])
    rig.wait_phase("r3", "set_aside")
    assert not rig.rack["r3"].running, "it does not burn on"
    assert "did not come up within 6 s" in rig.why("r3")
    rig.kill()  # the controller, with a node set aside
    rig.start()
    rig.wait_phase("r3", "set_aside")
    rig.rack["r3"].set_faults(no_ssh=False)
    rig.cli("racksack", "power", "on", "r3", "--wait")
    rig.ended([job])
    rig.all_off("r3")


def test_power_lost_in_mid_job(rig: PowerRig) -> None:
    """The outlet says that the server is off, so its job need not wait until it counts as lost."""
    job = rig.submit_traced("outage", ["r5", "r6"], "/home/racksack/go-outage")
    where = rig.wait_for(job, "running")["node"]
    rig.rack[where].power_cut("outage")
    other = {"r5": "r6", "r6": "r5"}[where]
    (rig.rack[other].home() / "go-outage").touch()
    (rig.rack[where].home() / "go-outage").touch()
    done = rig.ended([job])[0]
    assert done["attempt"] == 2
    rig.all_off("r5", "r6")


@pytest.mark.skipif(not FULL, reason="test_rack.py cuts nodes off in mid-job; RACKSACK_FULL_SIZE=1 runs it here too")
def test_a_partition_in_mid_job(rig: PowerRig) -> None:
    job = rig.submit_traced("cut", ["r5", "r6"], "/home/racksack/go-cut")
    where = rig.wait_for(job, "running")["node"]
    other = {"r5": "r6", "r6": "r5"}[where]
    rig.rack[where].partition()
    try:
        (rig.rack[other].home() / "go-cut").touch()
        done = rig.ended([job])[0]
        assert (done["attempt"], done["node"]) == (2, other)
        assert rig.rack[where].running, "a server that cannot be reached is not cut off from its power"
    finally:
        rig.rack[where].heal()
    rig.all_off("r5", "r6")


@pytest.mark.parametrize("name", ["r1", "r4", "r5"] if FULL else ["r4"])
def test_controller_killed_while_a_server_boots_and_while_it_goes_down(rig: PowerRig, name: str) -> None:
    """It goes on with the time that is left, and resets nothing twice."""
    rig.rack[name].set_faults(boot_delay_s=4.0)
    before = {event: rig.count(name, event) for event in ("magic-packet", "power-on", "stopping")}
    job = rig.submit_traced(f"boots-{name}", [name])
    until(lambda: rig.count(name, "power-on") > before["power-on"], "it has been switched on", 60)
    until(lambda: rig.ask(f"nodes/{name}")["power"]["way"], "it is recorded which way has accepted", 60)
    rig.kill()
    rig.start()
    rig.ended([job])
    assert rig.count(name, "power-on") == before["power-on"] + 1
    assert rig.count(name, "magic-packet") - before["magic-packet"] <= 6, "three of each controller"
    rig.rack[name].set_faults(boot_delay_s=1.5)
    until(lambda: rig.count(name, "stopping") > before["stopping"], "it goes down", 60)
    rig.kill()
    rig.start()
    rig.all_off(name)
    rig.wait_phase(name, "off")


def test_controller_killed_before_anybody_was_asked_to_shut_down(rig: PowerRig) -> None:
    """r6 has ten minutes for a shutdown; a shutdown that nobody heard of does not take them."""
    began_s, before = time.time(), rig.count("r6", "stopping")
    rig.ended([rig.submit_traced("unasked", ["r6"])])
    listener = rig.rack["r6"].exec(["pgrep", "-o", "-x", "sshd"], user="root").stdout.strip()
    rig.rack["r6"].exec(["kill", "-STOP", listener], user="root")  # whoever calls now is not answered
    try:
        until(lambda: "soft off asking" in story_of(rig, "r6", began_s), "it is about to be asked", 60)
        rig.kill()
    finally:
        rig.rack["r6"].exec(["kill", "-CONT", listener], user="root")
    assert rig.count("r6", "stopping") == before, "nobody has asked it"
    rig.start()
    rig.all_off("r6", timeout_s=120)
    rig.wait_phase("r6", "off")
    assert "runs on as before and no shutdown is under way" in story_of(rig, "r6", began_s)


def story_of(rig: PowerRig, name: str, since_s: float) -> str:
    """What happened to the power of a server since then (Unix seconds)."""
    return "\n".join(line["sentence"] for line in rig.ask(f"power?since_s={since_s}&node={name}") or [])


def test_a_server_whose_bmc_refuses_its_password_is_off_when_it_is_silent(rig: PowerRig) -> None:
    rig.all_off("r2")
    rig.wait_phase("r2", "off")
    assert "no device could say more" in story_of(rig, "r2", rig.began_s)
    job = rig.submit_traced("unwitnessed", ["r2"], "/home/racksack/go-unwitnessed")
    rig.wait_for(job, "running")
    (rig.rack["r2"].home() / "go-unwitnessed").touch()
    rig.rack["r2"].power_cut("outage")
    done = rig.ended([job])[0]
    assert done["attempt"] == 2, "it was found off, and was switched on for its job again"
    rig.all_off("r2")
    rig.wait_phase("r2", "off")


def test_nothing_is_left_on_at_the_end(rig: PowerRig) -> None:
    rig.all_off()
    for name in NAMES:
        assert "off for" in rig.why(name)
    rig.no_power_was_taken_from_jobs("outage")
