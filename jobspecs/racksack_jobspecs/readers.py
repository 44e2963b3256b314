"""Readers: one value of a YAML text -> one checked value, or a sentence that says how to fix it.

A reader takes a node, the path of its key and a report. It raises ValueError when the value as a whole is wrong, and
adds to the report when parts of it are, so that one run finds every mistake. Each reader comes with the piece of JSON
Schema that says the same (`Kind`), and a `Field` gives a kind its key and its documentation. The job file
(`fields`) and the controller's configuration are both tables of fields.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from racksack_jobspecs import units
from racksack_jobspecs.yamltext import Mapping, Node, Problem, Scalar, Sequence

NAME_CHARS_MAX = 100
PROBLEMS_MAX = 100
HINTS_MAX = 20  # unknown keys of one text for which a known one is looked for
WORD_CHARS_MAX = 60  # of a word for which a known one is looked for, or which is shown
KNOWN_MAX = 500  # words among which the closest one is looked for
ITEMS_MAX = 20_000  # of a list that is written as one text
PATH_BYTES_MAX = 4096
ARGUMENT_BYTES_MAX = 128 * 1024 - 1  # Linux takes no longer argument or environment string (MAX_ARG_STRLEN)
ENV_KEY_CHARS_MAX = 255

NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ENV_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})


class Report:
    """Collects the mistakes of one text."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._hints_left = HINTS_MAX

    def add(self, line: int, path: str, sentence: str) -> None:
        """Note one mistake."""
        self.problems.append(Problem(line, path, sentence))

    def closest(self, word: str, known: Iterable[str]) -> str | None:
        """The known word that is most likely meant; None also after the first few, since looking takes a while."""
        if self._hints_left <= 0:
            return None
        self._hints_left -= 1
        return closest(word, known)

    def sorted(self) -> tuple[Problem, ...]:
        """The mistakes in the order of the text, each once; of very many, the first."""
        found = sorted(set(self.problems), key=lambda problem: (problem.line, problem.path, problem.sentence))
        if len(found) > PROBLEMS_MAX:
            more = f"there are {len(found) - PROBLEMS_MAX} more mistakes; fix these first"
            found[PROBLEMS_MAX:] = [Problem(found[PROBLEMS_MAX].line, "", more)]
        return tuple(found)


Reader = Callable[[Node, str, Report], Any]


class Kind(msgspec.Struct, frozen=True):
    """How a value is read, and the JSON Schema that describes it."""

    read: Reader
    schema: dict[str, Any]


class Field(msgspec.Struct, frozen=True):
    """One key of a mapping: its meaning in a sentence, an example value and its default as the docs show it."""

    key: str
    kind: Kind
    doc: str
    example: str
    default: str = ""
    is_required: bool = False
    may_be_empty: bool = False  # `key:` with nothing behind it is allowed


def attempt(read: Reader, node: Node, path: str, report: Report) -> Any:  # noqa: ANN401
    """The value of one node, or None after its mistake was noted."""
    try:
        return read(node, path, report)
    except ValueError as error:
        report.add(node.line, path, str(error))
        return None


def read_fields(
    node: Node, path: str, fields: Iterable[Field], report: Report, familiar: dict[str, str] | None = None
) -> dict[str, Any]:
    """The values of a mapping's known keys; what is unknown, doubled, empty or missing goes to the report.

    `familiar` maps spellings that people try first to the key that is meant.
    """
    if not isinstance(node, Mapping):
        raise ValueError("this must be a mapping; write key: value lines")
    by_key = {field.key: field for field in fields}
    lines: dict[str, int] = {}
    values: dict[str, Any] = {}
    for key, value in node.entries:
        where = f"{path}.{shown(key.text)}" if path else shown(key.text)
        field = by_key.get(key.text)
        if key.text in lines:
            report.add(key.line, where, f"duplicate key (first defined on line {lines[key.text]}); keep one of them")
        elif field is None:
            report.add(key.line, where, f"is not a known key; {_remedy(key.text, by_key, familiar or {}, report)}")
        elif isinstance(value, Scalar) and value.is_null and not field.may_be_empty:
            report.add(key.line, where, f"has no value; write one, such as {field.example}, or remove the line")
        else:
            values[key.text] = attempt(field.kind.read, value, where, report)
        lines.setdefault(key.text, key.line)
    for field in by_key.values():
        if field.is_required and field.key not in lines:
            report.add(
                node.line, f"{path}.{field.key}" if path else field.key, f"is missing; add {field.key}: {field.example}"
            )
    return {key: value for key, value in values.items() if value is not None}


def _remedy(key: str, known: Iterable[str], familiar: dict[str, str], report: Report) -> str:
    meant = familiar.get(key.lower()) or report.closest(key, known)
    return f"did you mean {meant}?" if meant else "remove it, or see the documentation for the keys there are"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a mistyped one most likely stands for; of very many only the first, and no long ones."""
    import difflib  # here, because it is needed only when something is wrong

    short = [one for one in itertools.islice(known, KNOWN_MAX) if len(one) <= WORD_CHARS_MAX]
    close = difflib.get_close_matches(word[:WORD_CHARS_MAX].lower(), short, n=1, cutoff=0.6)
    return close[0] if close else None


def shown(text: str) -> str:
    """Text from a file as a message may quote it: one line, printable and short."""
    safe = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[:WORD_CHARS_MAX])
    return safe if len(text) <= WORD_CHARS_MAX else f"{safe}..."


def word_of(node: Node, _path: str = "", _report: Report | None = None) -> str:
    """The characters of a single value, without surrounding spaces."""
    if not isinstance(node, Scalar):
        raise ValueError("this must be a single value; write it without a list or mapping around it")
    if node.is_null:
        raise ValueError('this has no value; write one, or "" for empty text')
    return node.text.strip()


def matching(pattern: re.Pattern[str], otherwise: str) -> Reader:
    """A reader of words of one pattern; the sentence about any other word ends with `otherwise`."""

    def read(node: Node, _path: str, _report: Report) -> str:
        word = word_of(node)
        if not pattern.fullmatch(word):
            raise ValueError(f"{shown(word)} {otherwise}")
        return word

    return read


def line_of(node: Node, _path: str, _report: Report) -> str:
    """One printable line of at most 100 characters, for names."""
    word = word_of(node)
    if not word:
        raise ValueError("this is empty; write at least one character")
    if len(word) > NAME_CHARS_MAX:
        raise ValueError(f"this has {len(word)} characters; write at most {NAME_CHARS_MAX}")
    if not word.isprintable():
        bad = next(char for char in word if not char.isprintable())
        what = "a line break" if bad in "\n\r\u2028\u2029" else f"the character U+{ord(bad):04X}"
        raise ValueError(f"this holds {what}; write one line of visible characters")
    return word


def text_of(node: Node, _path: str, _report: Report) -> str:
    """Any text that a process can take as an argument; spaces and line breaks are kept."""
    word_of(node)
    text = node.text if isinstance(node, Scalar) else ""
    if "\0" in text:
        raise ValueError("this holds a NUL character, which no program can receive; remove it")
    if len(text.encode()) > ARGUMENT_BYTES_MAX:
        raise ValueError(f"this is longer than the {ARGUMENT_BYTES_MAX} bytes that Linux takes; put it into a file")
    return text


def path_of(node: Node, _path: str, _report: Report) -> str:
    """A path inside the project, normalised (`./a//b` is `a/b`)."""
    text = word_of(node)
    _check_inside(text)
    path = posixpath.normpath(text)
    if path == ".":
        raise ValueError("this names the project folder itself; name a file in it")
    return path


def glob_of(node: Node, _path: str, _report: Report) -> str:
    """A pattern relative to the project, such as `models/*.pt` or `**/metrics.json`."""
    text = word_of(node)
    _check_inside(text)
    return text.removeprefix("./") or "*"


def _check_inside(text: str) -> None:
    if not text:
        raise ValueError("this is empty; write a path inside the project")
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise ValueError("this holds a control character or line break; rename the file")
    if len(text.encode()) > PATH_BYTES_MAX:
        raise ValueError(f"this is longer than {PATH_BYTES_MAX} bytes; write a shorter path")
    if text.startswith(("/", "~")):
        raise ValueError(f"{shown(text)} is not inside the project; write the path relative to the project folder")
    if ".." in text.split("/"):
        raise ValueError(f"{shown(text)} points outside the project with ..; write a path that stays inside")


def whole_of(least: int, most: int, what: str) -> Kind:
    """A whole number within bounds; `what` names it in messages ("the number of jobs")."""

    def read(node: Node, _path: str, _report: Report) -> int:
        word = word_of(node)
        if not _WHOLE.fullmatch(word) or not least <= int(word) <= most:
            raise ValueError(f"{shown(word)} cannot be {what}; write a whole number from {least} to {most}")
        return int(word)

    return Kind(read, {"type": "integer", "minimum": least, "maximum": most})


def number_of(node: Node) -> float:
    """A decimal number. Raises ValueError without saying what it counts."""
    word = word_of(node)
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{shown(word)} is not a number; write digits, such as 2 or 0.5")
    return float(word)


def flag_of(node: Node, _path: str, _report: Report) -> bool:
    """True or false."""
    word = word_of(node).lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(f"{shown(word)} is neither true nor false; write true or false")
    return word in _TRUE


def one_of(*choices: str) -> Kind:
    """One of a few words."""

    def read(node: Node, _path: str, _report: Report) -> str:
        word = word_of(node)
        if word.lower() not in choices:
            raise ValueError(f"{shown(word)} is not one of the choices; write {either(choices)}")
        return word.lower()

    return Kind(read, {"enum": list(choices)})


def either(words: Iterable[str]) -> str:
    """`a, b or c`."""
    listed = list(words)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"


def list_of(kind: Kind, *, splits_at_commas: bool = False) -> Kind:
    """A list without repeats, or a single value in place of a list of one; words may be split at commas."""

    def read(node: Node, path: str, report: Report) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(_items(kind, node, path, report, splits_at_commas)))

    return Kind(read, {"anyOf": [{"type": "array", "items": kind.schema}, kind.schema]})


def sequence_of(kind: Kind) -> Kind:
    """A list in which order and repeats count; a single value stands for a list of one."""

    def read(node: Node, path: str, report: Report) -> tuple[Any, ...]:
        return tuple(_items(kind, node, path, report, False))

    return Kind(read, {"anyOf": [{"type": "array", "items": kind.schema}, kind.schema]})


def _items(kind: Kind, node: Node, path: str, report: Report, splits_at_commas: bool) -> list[Any]:
    nodes: list[Node] = node.items if isinstance(node, Sequence) else [node]
    if splits_at_commas and isinstance(node, Scalar):
        parts = [part for part in node.text.split(",", ITEMS_MAX + 1) if part.strip()]
        if len(parts) > ITEMS_MAX:
            raise ValueError(f"this lists more than {ITEMS_MAX} words; write fewer")
        nodes = [Scalar(node.line, part, False) for part in parts]
    found = [attempt(kind.read, item, f"{path}[{at}]", report) for at, item in enumerate(nodes)]
    return [value for value in found if value is not None]


def env_of(node: Node, path: str, report: Report) -> dict[str, str]:
    """Environment variables."""
    if not isinstance(node, Mapping):
        raise ValueError("this must be a mapping; write NAME: value lines below it")
    values: dict[str, str] = {}
    for key, value in node.entries:
        where = f"{path}.{shown(key.text)}"
        fault = _env_key_fault(key.text, values)
        if fault:
            report.add(key.line, where, fault)
            continue
        text = attempt(text_of, value, where, report)
        if text is not None:
            values[key.text] = text
    return values


def _env_key_fault(key: str, values: dict[str, str]) -> str:
    if not _ENV_KEY.fullmatch(key) or len(key) > ENV_KEY_CHARS_MAX:
        return "is not a variable's name; write letters, digits and _, not starting with a digit"
    if key.startswith("RACKSACK_"):
        return "is set by racksack itself; choose a name that does not begin with RACKSACK_"
    return "duplicate key; keep one of them" if key in values else ""


def label_of(node: Node, path: str, report: Report) -> str:
    """One label, a printable word without spaces or commas."""
    word = line_of(node, path, report)
    if re.search(r"[\s,]", word):
        raise ValueError(f"{shown(word)} holds a space or comma; write labels as a list of words")
    return word


def memory_of(node: Node, _path: str, _report: Report) -> int:
    """Bytes of a size."""
    return units.parse_memory(word_of(node))


def duration_of(node: Node, _path: str, _report: Report) -> float:
    """Seconds of a duration."""
    return units.parse_duration(word_of(node))


def cpus_of(node: Node, _path: str, _report: Report) -> float:
    """A CPU count, whole or in thousandths."""
    return units.parse_cpus(word_of(node))


_WORD_SCHEMA: dict[str, Any] = {"type": ["string", "number"]}
LINE = Kind(line_of, {"type": ["string", "number"], "maxLength": NAME_CHARS_MAX})
TEXT = Kind(text_of, {"type": ["string", "number", "boolean"]})
PATH = Kind(path_of, {"type": "string", "pattern": r"^(?!/)(?!~)(?!(.*/)?\.\.(/|$)).+$"})
GLOB = Kind(glob_of, PATH.schema)
FLAG = Kind(flag_of, {"type": "boolean"})
ENV = Kind(
    env_of, {"type": "object", "additionalProperties": TEXT.schema, "propertyNames": {"pattern": _ENV_KEY.pattern}}
)
_NODE_NAME = matching(NODE_NAME, "is not a node's name; write letters, digits, dots, - and _ (at most 63)")
NODE = Kind(_NODE_NAME, {"type": "string", "pattern": f"^{NODE_NAME.pattern}$"})
LABEL = Kind(label_of, {"type": "string"})
MEMORY = Kind(memory_of, {"type": "string", "pattern": r"^[0-9.]+\s*([KMGTPkmgtp]([iI]?[bB])?|[bB])$"})
DURATION = Kind(duration_of, {"type": "string"})
CPUS = Kind(cpus_of, {"type": "number", "exclusiveMinimum": 0, "maximum": units.CPUS_MAX})
