"""The example configurations of racks in docs/examples/racks are good as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_controller.config import load_config
from racksack_controller.power.settings import IloSettings, IpmiSettings, SshSettings, WolSettings

RACKS = sorted((Path(__file__).parents[2] / "docs" / "examples" / "racks").glob("*.yaml"))


@pytest.mark.parametrize("path", RACKS, ids=lambda path: path.stem)
def test_it_is_good_and_switches_every_node(path: Path) -> None:
    config = load_config(path)
    for node in config.nodes.values():
        assert node.power is not None
        assert node.power.on
        assert node.power.off


def test_they_are_what_their_names_say() -> None:
    kinds = {
        path.stem: {type(driver) for node in load_config(path).nodes.values() for driver in node.power.drivers.values()}
        for path in RACKS
    }
    assert kinds == {
        "without-sensors": {IpmiSettings, IloSettings, SshSettings},
        "without-bmcs": {WolSettings, SshSettings},
        "behind-a-jump-host": {WolSettings, SshSettings},
    }
