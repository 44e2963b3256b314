"""BMCs on the rack: racksack's own drivers, on the controller host, switch real servers through them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.rack import Rack, ServerSpec
from tests.rack.bmc import Bmc, Kind, outlet_settings, wake_settings
from tests.rack.fixtures import BuildRack

pytestmark = pytest.mark.rack
DRIVE = Path(__file__).with_name("drive_power.py")
Drive = Callable[..., list[str]]


@pytest.fixture
def pair(build_rack: BuildRack) -> Rack:
    """A controller that is on and a node that is off."""
    controller = ServerSpec("controller", role="controller", subnets=("a", "management"))
    rack = build_rack(controller, ServerSpec("r1", bmc=True, stop_timeout_s=2))
    rack.up("controller")
    return rack


@pytest.fixture
def drive(pair: Rack) -> Drive:
    """Use a driver on the controller host: its block, then what to do; a line for each comes back."""

    def run(block: dict[str, Any], *words: str) -> list[str]:
        argv = [sys.executable, str(DRIVE), json.dumps(block), *words]
        return pair["controller"].exec(argv, timeout_s=100).stdout.splitlines()

    return run


def make(rack: Rack, kind: Kind) -> tuple[Bmc, dict[str, Any]]:
    """A BMC for r1 and the block of its driver, its password on the controller host."""
    if kind == "ipmi" and shutil.which("ipmi_sim") is None:
        pytest.skip("ipmi_sim is not installed (Debian: openipmi)")
    bmc = Bmc(rack, "r1", kind)
    return bmc, bmc.settings(bmc.install_password(rack["controller"]))


def reasons(rack: Rack) -> list[tuple[str, str]]:
    """What was done to r1's power by something that gave a reason."""
    return [(event.event, event.detail) for event in rack.events("r1") if event.detail]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_driver_switches_a_real_server_through_its_bmc(pair: Rack, drive: Drive, kind: Kind) -> None:
    _, block = make(pair, kind)
    server = pair["r1"]
    assert drive(block, "status", "on") == ["status off", "on done"]
    server.wait_up()
    assert pair["controller"].exec(["ssh", "r1", "hostname"]).stdout == "r1\n"
    assert drive(block, "status", "soft_off") == ["status on", "soft_off done"]
    server.wait_off()
    pair.up("r1")
    assert drive(block, "hard_off")[0] == "hard_off done"
    assert not server.running
    assert drive(block, "status") == ["status off"]
    done = [event for event, by in reasons(pair) if by == kind]
    assert done == ["power-on", "power-button", "power-cut"]


def test_a_bmc_lives_while_its_server_does_not(pair: Rack, drive: Drive) -> None:
    _, block = make(pair, "redfish")
    pair.up("r1")
    pair["r1"].power_cut()
    assert drive(block, "status") == ["status off"]
    pair["r1"].partition_bmc()
    block["redfish"]["timeout"] = "2s"
    assert drive(block, "status")[0].split()[1] != "off"
    pair["r1"].heal()
    assert drive(block, "status") == ["status off"]


def test_a_changed_password_is_said_and_changes_nothing(pair: Rack, drive: Drive) -> None:
    bmc, block = make(pair, "redfish")
    bmc.set_password("changed")
    assert drive(block, "on")[0].startswith("on Power")
    assert not pair["r1"].running
    bmc.install_password(pair["controller"])
    assert drive(block, "on") == ["on done"]
    assert pair["r1"].running


def test_a_bmc_that_refuses_what_is_so_already_and_one_that_is_slow(pair: Rack, drive: Drive) -> None:
    bmc, block = make(pair, "redfish")
    assert drive(block, "hard_off") == ["hard_off done"]
    bmc.set_faults(slow_s=0.3, already_400=True)
    assert drive(block, "on", "on") == ["on done", "on done"]
    assert reasons(pair) == [("power-on", "redfish")]


def test_a_frozen_bmc_is_given_up_and_comes_back(pair: Rack, drive: Drive) -> None:
    bmc, block = make(pair, "ipmi")
    short = {"ipmi": {**block["ipmi"], "timeout": "2s"}}
    bmc.freeze()
    assert drive(short, "status")[0].startswith("status Power")
    bmc.thaw()
    assert drive(block, "status") == ["status off"]
    bmc.stop()
    assert drive(short, "status")[0].startswith("status Power")


def test_the_wake_driver_needs_a_third_packet_when_two_are_lost(pair: Rack, drive: Drive) -> None:
    server = pair["r1"]
    server.set_faults(magic_packets_ignored=2)
    assert drive(wake_settings(server), "on", "on", "on") == ["on done"] * 3
    server.wait_up()
    assert [event.event for event in pair.events("r1")][:4] == [
        "magic-dropped",
        "magic-dropped",
        "magic-packet",
        "power-on",
    ]


def test_the_command_driver_uses_the_outlet(pair: Rack, drive: Drive) -> None:
    block = outlet_settings(pair, "r1")
    assert drive(block, "status", "on", "status") == ["status off", "on done", "status on"]
    pair["r1"].wait_up()
    assert drive(block, "hard_off", "status") == ["hard_off done", "status off"]
    assert reasons(pair) == [("power-on", "outlet"), ("power-cut", "outlet")]
