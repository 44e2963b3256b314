"""The controller is killed while servers boot and shut down: it goes on with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.power_faults import FULL, faulty_rack, story_of
from tests.end_to_end.power_rig import PowerRig
from tests.end_to_end.site import until
from tests.rack.fixtures import BuildRack

NAMES = ("r1", "r4", "r5", "r6")

pytestmark = [pytest.mark.rack, pytest.mark.timeout(900 if FULL else 300)]


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[PowerRig]:
    with faulty_rack(build_module_rack, *NAMES) as rig:
        yield rig


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
    story = story_of(rig, "r6", began_s)
    assert "soft off accepted: ssh accepted" in story, "it was asked after the start, at once"
    assert "still answers after" not in story


def test_nothing_is_left_on_at_the_end(rig: PowerRig) -> None:
    rig.all_off()
    for name in NAMES:
        assert "off for" in rig.why(name)
    rig.no_power_was_taken_from_jobs("outage")
