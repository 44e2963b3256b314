"""Text to nodes with lines, plain values, and paths back to lines."""

import pytest

from racksack_jobspecs.yamlplain import doubled_keys, line_at, plain
from racksack_jobspecs.yamltext import Mapping, Node, YamlError, load

TEXT = """\
nodes:
  r1.lab:
    power:
      on:
        - {redfish: {url: x,
             user: y}}
        - wol
  r1: {power: {off: ssh}}
"""


def node_of(text: str) -> Node:
    node = load(text)
    assert node is not None
    return node


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nodes.r1.lab.power.on[0].redfish.user", 6),
        ("nodes.r1.lab.power.on[1]", 7),
        ("nodes.r1.lab.power.missing", 3),
        ("nodes.r1.power.off", 8),
        ("elsewhere", 1),
        ("nodes.r1.lab.power.on[9]", 4),
    ],
)
def test_paths_lead_to_lines(path: str, line: int) -> None:
    assert line_at(node_of(TEXT), path) == line


def test_plain_values() -> None:
    text = "a: 1\nb: 0.30\nc: yes\nd: 'yes'\ne:\nf: [on, -5, 007, '1', 1.2.3.4]\ng: {on: x}"
    assert plain(node_of(text)) == {
        "a": 1,
        "b": 0.3,
        "c": True,
        "d": "yes",
        "e": None,
        "f": ["on", -5, "007", "1", "1.2.3.4"],
        "g": {"on": "x"},
    }


def test_doubled_keys_are_found_at_any_depth() -> None:
    found = doubled_keys(node_of("a: {b: 1, b: 2}\nc: [{d: 1,\n d: 2}]"), "x")
    assert [(problem.line, problem.path) for problem in found] == [(1, "x.a.b"), (3, "x.c[0].d")]


def test_merged_entries_give_way_to_those_written_out() -> None:
    node = node_of("base: &base {a: 1, b: 2}\nmine: {a: 0, <<: *base}\nlate: {<<: *base, a: 0}")
    values = plain(node)
    assert values["mine"] == values["late"] == {"a": 0, "b": 2}


def test_a_merge_of_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(YamlError, match="only mappings can be merged"):
        load("<<: [a]")


def test_no_document_is_none() -> None:
    assert load("# only a comment\n") is None


def test_lines_are_those_of_an_editor() -> None:
    node = node_of("\n\na: 1\n\nb:\n  - x\n")
    assert isinstance(node, Mapping)
    assert [(key.text, key.line) for key, _ in node.entries] == [("a", 3), ("b", 5)]
