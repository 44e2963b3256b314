"""The example configurations of racks in docs/examples/racks are good as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_controller.config.config import load_config
from racksack_controller.config.power_nodes import JumpNodes, jump_nodes
from racksack_controller.power.settings import IloSettings, IpmiSettings, SshSettings, WolSettings

# c is reached through b and a, d wakes only by packets from b; e names the host of a instead of the node.
CHAIN = """\
spool: /var/lib/racksack
nodes:
  a: {ssh: {host: a.example.org, user: u}}
  b: {ssh: {host: b.example.org, user: u, jump: a}}
  c: {ssh: {host: c.example.org, user: u, jump: b}}
  d: {ssh: {host: d.example.org, user: u}, power: {on: [{wol: {mac: "52:54:00:77:00:01", jump: b}}], off: [ssh]}}
  e: {ssh: {host: e.example.org, user: u, jump: {host: a.example.org, user: other}}}
"""
RACKS = sorted((Path(__file__).parents[2] / "docs" / "examples" / "racks").glob("*.yaml"))


@pytest.mark.parametrize("path", RACKS, ids=lambda path: path.stem)
def test_it_is_good_and_switches_every_node(path: Path) -> None:
    config = load_config(path)
    for node in config.nodes.values():
        assert node.power is not None
        assert node.power.on
        assert node.power.off


def jumps_in(text: str, path: Path) -> JumpNodes:
    path.write_text(text)
    return jump_nodes({name: (node.reach, node.power) for name, node in load_config(path).nodes.items()})


def test_jump_nodes_are_found_however_many_follow_each_other(tmp_path: Path) -> None:
    jumps = jumps_in(CHAIN, tmp_path / "racksack.yaml")
    assert jumps.through == {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("a", "b"), "e": ("a",)}
    assert jumps.behind == {"a": ("b", "c", "d", "e"), "b": ("c", "d"), "c": (), "d": (), "e": ()}


def test_they_are_what_their_names_say() -> None:
    kinds = {
        path.stem: {type(driver) for node in load_config(path).nodes.values() for driver in node.power.drivers.values()}
        for path in RACKS
    }
    assert kinds == {
        "without-sensors": {IpmiSettings, IloSettings, SshSettings},
        "without-bmcs": {WolSettings, SshSettings},
        "behind-a-jump-host": {WolSettings, SshSettings},
        "behind-a-node": {WolSettings, SshSettings},
    }
