"""Nodes as plain Python values, for readers that were written for those, and the way back from a path to its line."""

from __future__ import annotations

import re
from typing import Any

from racksack_jobspecs.yamltext import Mapping, Node, Problem, Sequence

_INTEGER = re.compile("-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?[0-9]{1,18}\.[0-9]{1,18}")
_WORDS: dict[str, bool] = {"true": True, "yes": True, "false": False, "no": False}


def plain(node: Node) -> Any:  # noqa: ANN401 - parsed YAML
    """A node as dicts, lists, text, numbers and booleans, for readers that look lines up by `line_at`."""
    if isinstance(node, Mapping):
        return {key.text: plain(value) for key, value in node.entries}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    if node.is_null:
        return None
    if node.is_plain and _INTEGER.fullmatch(node.text):
        return int(node.text)
    if node.is_plain and _DECIMAL.fullmatch(node.text):
        return float(node.text)
    return _WORDS.get(node.text.lower(), node.text) if node.is_plain else node.text


def line_at(node: Node, path: str, line: int | None = None) -> int:
    """The line of what a path such as `nodes.r1.power.on[0].wol` names, or of the last part of it that exists.

    `line` is that of the key above the node. Keys may hold dots themselves, so they are matched against the path and
    not the other way round.
    """
    path = path.removeprefix(".")
    if isinstance(node, Mapping):
        for key, value in sorted(node.entries, key=lambda entry: -len(entry[0].text)):
            rest = path.removeprefix(key.text)
            if key.text and path.startswith(key.text) and (not rest or rest[0] in ".["):
                return line_at(value, rest, key.line) if rest else key.line
    found = re.match(r"\[([0-9]{1,6})\]", path)
    if isinstance(node, Sequence) and found and int(found[1]) < len(node.items):
        item = node.items[int(found[1])]
        return line_at(item, path[found.end() :], item.line)
    return node.line if line is None else line


def doubled_keys(node: Node, path: str) -> list[Problem]:
    """The keys that stand twice in one mapping, anywhere below a node; plain values cannot show them."""
    if isinstance(node, Sequence):
        return [found for at, item in enumerate(node.items) for found in doubled_keys(item, f"{path}[{at}]")]
    if not isinstance(node, Mapping):
        return []
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for key, value in node.entries:
        where = f"{path}.{key.text}"
        if key.text in lines:
            sentence = f"duplicate key (first defined on line {lines[key.text]}); keep one of them"
            problems.append(Problem(key.line, where, sentence))
        lines.setdefault(key.text, key.line)
        problems += doubled_keys(value, where)
    return problems
