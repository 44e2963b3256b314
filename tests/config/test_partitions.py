"""The `partitions` block: what it means, and every mistake in it."""

from __future__ import annotations

import pytest

from racksack_controller.config.config import ConfigError, parse_config

NODES = "nodes:\n  r1: {local: {}}\n  r2: {ssh: {host: h, user: u}, labels: [epyc], address: 10.0.0.2}\n"


def test_nodes_by_name_and_by_label() -> None:
    config = parse_config(
        NODES + "partitions:\n  day: {nodes: [r1], default: yes}\n"
        "  night: {nodes: [r1], labels: [epyc], users: [ann], time_limit: 2h, max_running_per_owner: 3}\n"
    )
    assert {name: node.partitions for name, node in config.nodes.items()} == {
        "r1": ("day", "night"),
        "r2": ("night",),
    }
    night = config.partitions["night"]
    assert (night.users, night.time_limit_s, night.is_default) == (("ann",), 7200.0, False)
    assert config.scheduling.partition_limits == {"night": 3}
    assert config.nodes["r2"].address == "10.0.0.2"


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("{day: {nodes: [r3]}}", "partitions.day: names an unknown node: r3"),
        ("{day: {}}", "partitions.day: has no node"),
        ("{day: {labels: [arm]}}", "partitions.day: has no node"),
        (
            "{a: {nodes: [r1], default: yes}, b: {nodes: [r1], default: yes}}",
            "partitions.b: is a second default partition beside a",
        ),
        ("{a: {nodes: [r1]}, a: {nodes: [r2]}}", "duplicate"),
        ('{"a b": {nodes: [r1]}}', "is not a partition's name"),
        ("{a: {nodes: [r1], max_running_per_owner: 0}}", "max_running_per_owner"),
        ("[r1]", "partitions"),
    ],
)
def test_mistakes(block: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(NODES + f"partitions: {block}\n")
    assert sentence in str(caught.value)
