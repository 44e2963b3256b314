"""Changes to the text of a racksack.yaml that leave everything else as its owner wrote it.

Where an entry stands is asked of the YAML parser; what is written in a form that cannot be changed without touching
the rest (aliases, all nodes in one line) is left to its owner, who is told what to write.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from racksack_controller.config.config import Config, ConfigError, parse_config


class EditError(Exception):
    """Why the text was not changed; the sentence says what to write by hand."""


def parsed(text: str) -> Config | None:
    """The configuration of a text; None for one that only lacks its first node. Raises ConfigError."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    nodes = _value(root, "nodes")
    if nodes is None or _is_empty(nodes):
        first = with_node(text, "first", {"local": {"shared": True}})
        parse_config(first)  # for every other mistake
        return None
    return parse_config(text)


def with_node(text: str, name: str, block: dict[str, object]) -> str:
    """The text with one more node. Raises EditError, and ConfigError when the result is no good."""
    line = f"{name}: {yaml.safe_dump(block, default_flow_style=True, width=10_000).strip()}"
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    key = next((key for key, _ in _entries(root) if key.value == "nodes"), None)
    nodes = _value(root, "nodes")
    if key is None or nodes is None:
        lines += ["nodes:", f"  {line}"]
    elif isinstance(nodes, yaml.MappingNode) and not nodes.flow_style and nodes.value:
        last = nodes.value[-1][1].end_mark
        at = last.line + 1 if last.column else last.line
        lines.insert(at, " " * nodes.value[0][0].start_mark.column + line)
    elif _is_empty(nodes):  # `nodes:`, `nodes: {}`, `nodes: ~`
        before, after = text[: nodes.start_mark.index].rstrip(" "), text[nodes.end_mark.index :]
        lines = (before + after).splitlines()
        lines.insert(key.start_mark.line + 1, f"  {line}")
    else:
        raise EditError(f"`nodes:` is written in braces; add this line to it by hand:\n  {line}")
    result = "\n".join(lines) + "\n"
    parse_config(result)
    return result


def with_host_key(text: str, name: str, host_key: str) -> str:
    """The text with another host key of a node. Raises EditError, and ConfigError when the result is no good."""
    by_hand = EditError(f'write this into the ssh block of {name} by hand:\n  host_key: "{host_key}"')
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    ssh = _value(_value(_value(root, "nodes"), name), "ssh")
    if not isinstance(ssh, yaml.MappingNode) or sum(node is ssh for node in _all(root)) != 1:
        raise by_hand
    old = _value(ssh, "host_key")
    if old is not None and sum(node is old for node in _all(root)) != 1:
        raise by_hand
    if old is not None:
        result = f'{text[: old.start_mark.index]}"{host_key}"{text[old.end_mark.index :]}'
    elif ssh.flow_style:
        at = ssh.start_mark.index + 1
        result = f'{text[:at]}host_key: "{host_key}"{", " if ssh.value else ""}{text[at:]}'
    else:
        first = ssh.value[0][0].start_mark
        at = first.index - first.column
        result = f'{text[:at]}{" " * first.column}host_key: "{host_key}"\n{text[at:]}'
    try:
        parse_config(result)
    except ConfigError:
        raise by_hand from None
    return result


def _is_empty(node: yaml.Node) -> bool:
    return not node.value or node.tag == "tag:yaml.org,2002:null"


def _entries(node: yaml.Node | None) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    return list(node.value) if isinstance(node, yaml.MappingNode) else []


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """What stands under a key of a mapping; None where it is no mapping or has no such key."""
    return next((value for found, value in _entries(node) if found.value == key), None)


def _all(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """Every value as often as it is used, so an anchored one more than once."""
    if node is None:
        return
    yield node
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _all(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _all(item)
