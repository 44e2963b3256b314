"""What goes wrong with power on real servers: nothing is lost, stays on idle or is stuck, and `why` says it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.power_faults import FULL, SLOW_S, faulty_rack
from tests.end_to_end.power_rig import PowerRig
from tests.rack.fixtures import BuildRack

NAMES = ("r1", "r2", "r3", "r4", "r5")

pytestmark = [pytest.mark.rack, pytest.mark.timeout(900 if FULL else 300)]


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[PowerRig]:
    with faulty_rack(build_module_rack, *NAMES) as rig:
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


def test_nothing_is_left_on_at_the_end(rig: PowerRig) -> None:
    rig.all_off()
    for name in NAMES:
        assert "off for" in rig.why(name)
    rig.no_power_was_taken_from_jobs("outage")
