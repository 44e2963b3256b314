"""Mappings whose keys are names that the owner chose: nodes, partitions, channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from racksack_jobspecs.readers import NODE_NAME, Field, Report, attempt, read_fields, shown
from racksack_jobspecs.yamltext import Mapping, Node


class Named(NamedTuple):
    """One entry. `path` is where it stands, `values` what could be read of `node`."""

    line: int
    path: str
    name: str
    node: Node
    values: dict[str, Any]


def named_blocks(block: Mapping, path: str, what: str, fields: Sequence[Field], report: Report) -> Iterator[Named]:
    """The entries of a mapping from names to mappings of `fields`; names that will not do go to the report.

    `what`: whose name it is, such as "a partition's name".
    """
    lines: dict[str, int] = {}
    for key, node in block.entries:
        where = f"{path}.{shown(key.text)}"
        if not NODE_NAME.fullmatch(key.text):
            report.add(key.line, where, f"is not {what}; write letters, digits, dots, - and _ (at most 63)")
        elif key.text in lines:
            report.add(key.line, where, f"duplicate name (first defined on line {lines[key.text]}); rename one of them")
        else:
            lines[key.text] = key.line
            values = attempt(lambda item, at, to: read_fields(item, at, fields, to), node, where, report)
            yield Named(key.line, where, key.text, node, values or {})
