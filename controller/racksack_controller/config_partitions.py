"""The `partitions` block of racksack.yaml: named sets of nodes, each with its own limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from racksack_jobspecs.readers import (
    DURATION,
    FLAG,
    LABEL,
    LINE,
    NODE,
    NODE_NAME,
    Field,
    Report,
    attempt,
    list_of,
    read_fields,
    shown,
    whole_of,
)
from racksack_jobspecs.yamltext import Mapping as Block

PARTITION_FIELDS = (
    Field("nodes", list_of(NODE, splits_at_commas=True), "Its nodes, by name.", "[r1, r2]", "none"),
    Field("labels", list_of(LABEL, splits_at_commas=True), "And every node with one of these.", "[epyc]", "none"),
    Field("default", FLAG, "Jobs that name no partition are of this one.", "yes", "no"),
    Field("users", list_of(LINE, splits_at_commas=True), "Only these may use it.", "[alice]", "everybody"),
    Field("time_limit", DURATION, "No job may ask for more; what a job that names none gets.", "2h", "no limit"),
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
    for key, node in block.entries:
        where = f"partitions.{shown(key.text)}"
        if not NODE_NAME.fullmatch(key.text):
            report.add(key.line, where, "is not a partition's name; write letters, digits, dots, - and _ (at most 63)")
        elif key.text in found:
            report.add(key.line, where, "stands here again; rename one of them")
        else:
            values = attempt(lambda item, at, to: read_fields(item, at, PARTITION_FIELDS, to), node, where, report)
            found[key.text] = _partition(key.text, values or {}, nodes)
            _check(key.line, where, found, key.text, values or {}, nodes, report)
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


def _check(
    line: int,
    where: str,
    found: Mapping[str, Partition],
    name: str,
    values: Mapping[str, Any],
    nodes: Mapping[str, Collection[str]],
    report: Report,
) -> None:
    unknown = [one for one in values.get("nodes", ()) if one not in nodes]
    if unknown:
        report.add(line, where, f"names a node that there is not: {unknown[0]}; write names from nodes")
    elif not found[name].nodes:
        report.add(line, where, "has no node; write nodes: [...], or labels: [...] that nodes have")
    others = [other.name for other in found.values() if other.is_default and other.name != name]
    if found[name].is_default and others:
        report.add(line, where, f"is the default as {others[0]} is; keep one of them")
