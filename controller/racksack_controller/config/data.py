"""The `data` block of racksack.yaml: data sets that lie on nodes already, on a local disk or a mounted share."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from racksack_controller.config.named_blocks import named_blocks
from racksack_jobspecs.readers import NODE, Field, Kind, Report, list_of, shown, word_of
from racksack_jobspecs.yamltext import Mapping as Block
from racksack_jobspecs.yamltext import Node


def _path(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    if not word.startswith("/") or "\0" in word or ".." in word.split("/"):
        raise ValueError(f"{shown(word)} is not a full path on the node; write one such as /srv/imagenet")
    return word.rstrip("/") or "/"


DATA_FIELDS = (
    Field("path", Kind(_path, {"type": "string"}), "Where it lies on the nodes.", "/srv/imagenet", is_required=True),
    Field("nodes", list_of(NODE, splits_at_commas=True), "The nodes that have it.", "[r1, r2]", "all"),
)


class DataOnNodes(msgspec.Struct, frozen=True):
    """Data that lies on nodes already."""

    path: str
    nodes: tuple[str, ...] = ()  # all nodes if empty


def data_of(block: Block, nodes: Collection[str], report: Report) -> dict[str, DataOnNodes]:
    """All of them by name. `nodes`: the nodes that there are."""
    found: dict[str, DataOnNodes] = {}
    for one in named_blocks(block, "data", "a data set's name", DATA_FIELDS, report):
        unknown = [name for name in one.values.get("nodes", ()) if name not in nodes]
        if unknown:
            report.add(one.line, one.path, f"names an unknown node: {unknown[0]}; use names from `nodes`")
        if "path" in one.values:
            found[one.name] = DataOnNodes(one.values["path"], one.values.get("nodes", ()))
    return found
