"""A server that loses its power, or cannot be reached, while a job runs on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.power_faults import FULL, faulty_rack, story_of
from tests.end_to_end.power_rig import PowerRig
from tests.rack.fixtures import BuildRack

NAMES = ("r2", "r5", "r6")

pytestmark = [pytest.mark.rack, pytest.mark.timeout(900 if FULL else 300)]


@pytest.fixture(scope="module")
def rig(build_module_rack: BuildRack) -> Iterator[PowerRig]:
    with faulty_rack(build_module_rack, *NAMES) as rig:
        yield rig


def test_a_server_whose_bmc_refuses_its_password_is_off_when_it_is_silent(rig: PowerRig) -> None:
    rig.all_off("r2")
    rig.wait_phase("r2", "off")
    assert "no device could tell" in story_of(rig, "r2", rig.began_s)
    job = rig.submit_traced("unwitnessed", ["r2"], "/home/racksack/go-unwitnessed")
    rig.wait_for(job, "running")
    (rig.rack["r2"].home() / "go-unwitnessed").touch()
    rig.rack["r2"].power_cut("outage")
    done = rig.ended([job])[0]
    assert done["attempt"] == 2, "it was found off, and was switched on for its job again"
    rig.all_off("r2")
    rig.wait_phase("r2", "off")


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


def test_nothing_is_left_on_at_the_end(rig: PowerRig) -> None:
    rig.all_off()
    for name in NAMES:
        assert "off for" in rig.why(name)
    rig.no_power_was_taken_from_jobs("outage")
