"""YAML text -> nodes that know their lines, for text that nobody has checked yet.

The text is read as libyaml's event stream and built into three plain kinds of node without recursion. Scalars keep
the characters that were written (`3.10` stays `3.10`, `2:00:00` is not a number of seconds), so each key decides for
itself what it takes. Whatever the text holds, the only exception is `YamlError`, and the work is bounded: size, depth
and the number of nodes after aliases are followed.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import yaml

TEXT_BYTES_MAX = 1024**2
DEPTH_MAX = 20
NODES_MAX = 20_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")


class Problem(msgspec.Struct, frozen=True):
    """One mistake: the line (counted from 1), the key's path such as `gpus.model`, and what to do about it."""

    line: int
    path: str
    sentence: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.sentence}" if self.path else f"{where}{self.sentence}"


class YamlError(ValueError):
    """The text is not YAML, or more than a reader should take on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Scalar(msgspec.Struct):
    """A single value; `is_plain` when it was written without quotes."""

    line: int
    text: str
    is_plain: bool

    @property
    def is_null(self) -> bool:
        """True for nothing, `~` and `null` without quotes."""
        return self.is_plain and self.text in _NULLS


class Sequence(msgspec.Struct):
    """A list."""

    line: int
    items: list[Node]


class Mapping(msgspec.Struct):
    """Keys and values in the order of the text; a key that stands twice is there twice."""

    line: int
    entries: list[tuple[Scalar, Node]]


Node = Scalar | Sequence | Mapping


def load(text: str | bytes, max_bytes: int = TEXT_BYTES_MAX) -> Node | None:
    """The root node of a text with one YAML document, None for a text without any. Raises YamlError."""
    events = _LOADER(_checked(text, max_bytes))
    try:
        return _Builder(events).root()
    except yaml.MarkedYAMLError as error:
        raise YamlError(_syntax_problem(error)) from None
    except yaml.YAMLError as error:
        raise YamlError(Problem(0, "", f"this is not YAML ({error}); check quotes and indentation")) from None
    finally:
        events.dispose()


def _checked(text: str | bytes, max_bytes: int) -> str:
    """The text without a byte order mark, if it is short enough, UTF-8 and free of control characters."""
    if len(text) > max_bytes:
        raise YamlError(Problem(0, "", f"the file is larger than {max_bytes // 1024} KiB; put data into the project"))
    if isinstance(text, bytes):
        text = text_of(text)
    found = _CONTROL.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        sentence = f"there is a control character (0x{ord(found[0]):02x}) here; remove it"
        raise YamlError(Problem(line, "", sentence))
    if not _is_encodable(text):
        raise YamlError(Problem(0, "", "the text holds half a character (a lone surrogate); save the file as UTF-8"))
    return text.removeprefix("\ufeff")


def text_of(text: bytes) -> str:
    """The characters of a file's bytes. Raises YamlError where they are not UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        sentence = f"the byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise YamlError(Problem(line, "", sentence)) from None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Builder:
    """Builds nodes from events. The stack is a list, so that deep nesting cannot exhaust the interpreter's."""

    def __init__(self, events: Any) -> None:  # noqa: ANN401 - PyYAML's loaders have no common typed base
        self._events = events
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0
        self._root: Node | None = None

    def root(self) -> Node | None:
        documents = 0
        while True:
            event = self._events.get_event()
            if isinstance(event, yaml.StreamEndEvent):
                return self._root
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise YamlError(_at(event, "a second document starts here; write one file for each"))
            elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                self._follow(event)

    def _start(self, event: Any) -> None:  # noqa: ANN401
        if event.tag is not None and event.tag != "!":
            raise YamlError(_at(event, f"the tag {event.tag!r} is not used here; remove it"))
        self._add(1, event)
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(line, event.value, event.implicit[0])
            self._remember(event.anchor, node, 1)
            self._place(node, event)
            return
        if len(self._open) >= DEPTH_MAX:
            raise YamlError(_at(event, f"this is nested more than {DEPTH_MAX} levels deep; write it flatter"))
        collection = Sequence(line, []) if isinstance(event, yaml.SequenceStartEvent) else Mapping(line, [])
        self._open.append(_Open(collection, event, self._count))

    def _end(self) -> None:
        ended = self._open.pop()
        self._remember(ended.event.anchor, ended.node, self._count - ended.count_before + 1)
        self._place(ended.node, ended.event)

    def _follow(self, event: Any) -> None:  # noqa: ANN401
        """An alias counts as much as what it stands for: that is what makes a YAML bomb stop here."""
        if event.anchor not in self._anchors:
            raise YamlError(_at(event, f"*{event.anchor} stands before &{event.anchor} is complete; define it first"))
        node, size = self._anchors[event.anchor]
        self._add(size, event)
        self._place(node, event)

    def _add(self, count: int, event: Any) -> None:  # noqa: ANN401
        self._count += count
        if self._count > NODES_MAX:
            raise YamlError(_at(event, f"there are more than {NODES_MAX} values (aliases followed); write fewer"))

    def _remember(self, anchor: str | None, node: Node, size: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)

    def _place(self, node: Node, event: Any) -> None:  # noqa: ANN401
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if isinstance(parent.node, Sequence):
            parent.node.items.append(node)
        elif parent.key is None:
            if not isinstance(node, Scalar):
                raise YamlError(_at(event, "a key must be a single word here; remove the brackets around it"))
            parent.key = node
        else:
            parent.add_entry(parent.node, parent.key, node)
            parent.key = None


class _Open:
    """A collection whose end has not been seen."""

    __slots__ = ("count_before", "event", "key", "merged", "names", "node")

    def __init__(self, node: Sequence | Mapping, event: Any, count_before: int) -> None:  # noqa: ANN401
        self.node = node
        self.event = event
        self.count_before = count_before
        self.key: Scalar | None = None
        self.names: set[str] = set()
        self.merged: dict[str, int] = {}  # where the entries stand that came by `<<`

    def add_entry(self, mapping: Mapping, key: Scalar, value: Node) -> None:
        """Add one entry. What came by `<<: *anchor` gives way to the same key written out."""
        if key.is_plain and key.text == "<<":
            for source in value.items if isinstance(value, Sequence) else [value]:
                self._merge(mapping, key, source)
        elif key.text in self.merged:
            mapping.entries[self.merged.pop(key.text)] = (key, value)
        else:
            self.names.add(key.text)
            mapping.entries.append((key, value))

    def _merge(self, mapping: Mapping, key: Scalar, source: Node) -> None:
        if not isinstance(source, Mapping):
            raise YamlError(Problem(key.line, "<<", "only mappings can be merged in; write <<: *name"))
        for other, node in source.entries:
            if other.text not in self.names:
                self.names.add(other.text)
                self.merged[other.text] = len(mapping.entries)
                mapping.entries.append((other, node))


def _at(event: Any, sentence: str) -> Problem:  # noqa: ANN401
    return Problem(event.start_mark.line + 1, "", sentence)


_REMEDIES = (
    (
        "mapping values are not allowed",
        "a key: value pair is not allowed here; check the indentation, and put values with a colon in quotes",
    ),
    ("cannot start any token", "a value cannot start with this character (a tab, @, ` or %); use spaces or quotes"),
    ("found unexpected end of stream", "a quote that opened is not closed; close it"),
    ("undefined alias", "an alias (*name) stands before its anchor (&name); define it first"),
    ("did not find expected key", "a key was expected here; check the indentation and the quotes"),
    ("could not find expected ':'", "a key without a colon stands here; write key: value"),
    ("did not find expected ',' or", "a list or mapping that opened with [ or { is not closed; close it"),
    ("did not find expected '-' indicator", "a list item was expected here; check the indentation"),
)


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    """What the YAML reader found, in words that say how to fix it."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 0
    said = str(error.problem or error.context or "unreadable")
    for part, sentence in _REMEDIES:
        if part in said:
            return Problem(line, "", f"this is not YAML: {sentence}")
    return Problem(line, "", f"this is not YAML: {said}; check the quotes and the indentation")
