"""The `partitions` block of racksack.yaml: named sets of nodes, each with its own limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from racksack_controller.config.named_blocks import Named, named_blocks
from racksack_jobspecs.readers import (
    DURATION,
    FLAG,
    LABEL,
    LINE,
    NODE,
    Field,
    Report,
    list_of,
    whole_of,
)
from racksack_jobspecs.yamltext import Mapping as Block

PARTITION_FIELDS = (
    Field("nodes", list_of(NODE, splits_at_commas=True), "Its nodes, by name.", "[r1, r2]", "none"),
    Field(
        "labels", list_of(LABEL, splits_at_commas=True), "Also every node with one of these labels.", "[epyc]", "none"
    ),
    Field("default", FLAG, "The partition of jobs that name none.", "yes", "no"),
    Field("users", list_of(LINE, splits_at_commas=True), "Only these may use it.", "[alice]", "everybody"),
    Field(
        "time_limit",
        DURATION,
        "The longest time limit that a job may ask for, and the default of jobs without one.",
        "2h",
        "no limit",
    ),
    Field(
        "max_running_per_owner",
        whole_of(1, 1_000_000, "the number of jobs"),
        "How many jobs of one user may run in it at once.",
        "4",
        "no limit",
    ),
)


class Partition(msgspec.Struct, frozen=True):
    """A named set of nodes. None: no limit, everybody."""

    name: str
    nodes: tuple[str, ...] = ()
    is_default: bool = False
    users: tuple[str, ...] | None = None
    time_limit_s: float | None = None
    max_running_per_owner: int | None = None


def partitions_of(block: Block, nodes: Mapping[str, Collection[str]], report: Report) -> dict[str, Partition]:
    """All partitions by name. `nodes`: the labels of each node there is."""
    found: dict[str, Partition] = {}
    for one in named_blocks(block, "partitions", "a partition's name", PARTITION_FIELDS, report):
        found[one.name] = _partition(one.name, one.values, nodes)
        _check(one, found, nodes, report)
    return found


def _partition(name: str, values: Mapping[str, Any], nodes: Mapping[str, Collection[str]]) -> Partition:
    named = values.get("nodes", ())
    labelled = [one for one, labels in nodes.items() if set(labels) & set(values.get("labels", ()))]
    return Partition(
        name=name,
        nodes=tuple(dict.fromkeys((*named, *labelled))),
        is_default=values.get("default", False),
        users=values.get("users"),
        time_limit_s=values.get("time_limit"),
        max_running_per_owner=values.get("max_running_per_owner"),
    )


def _check(one: Named, found: Mapping[str, Partition], nodes: Mapping[str, Collection[str]], report: Report) -> None:
    unknown = [name for name in one.values.get("nodes", ()) if name not in nodes]
    if unknown:
        report.add(one.line, one.path, f"names an unknown node: {unknown[0]}; use names from `nodes`")
    elif not found[one.name].nodes:
        report.add(one.line, one.path, "has no nodes; add nodes: [...], or labels: [...] that nodes have")
    others = [other.name for other in found.values() if other.is_default and other.name != one.name]
    if found[one.name].is_default and others:
        report.add(one.line, one.path, f"is a second default partition beside {others[0]}; keep one")
