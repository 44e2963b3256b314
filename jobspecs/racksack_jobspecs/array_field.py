"""The key `array` of a job file: `0-99`, `1,3,5-7`, `0-98:2%8`, a list of such, or a mapping."""

from __future__ import annotations

import re

from racksack_jobspecs.readers import Field, Kind, Report, read_fields, shown, whole_of, word_of
from racksack_jobspecs.spec import ArraySpec
from racksack_jobspecs.yamltext import Mapping, Node, Scalar, Sequence

ARRAY_JOBS_MAX = 100_000
ARRAY_NAMED_MAX = 4 * ARRAY_JOBS_MAX  # indices as they are written, repeats among them
ARRAY_INDEX_MAX = 2**31 - 1

_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10})(?::([0-9]{1,10}))?)?")


def _array(node: Node, path: str, report: Report) -> ArraySpec:
    if isinstance(node, Mapping):
        values = read_fields(node, path, ARRAY_FIELDS, report)
        return ArraySpec(values.get("indices", ()), values.get("max_running"))
    if isinstance(node, Sequence):
        return ArraySpec(_indices(node, path, report))
    word, percent, limit = word_of(node).partition("%")
    if not percent:
        return ArraySpec(_indices(Scalar(node.line, word, False), path, report))
    most = _MAX_RUNNING.read(Scalar(node.line, limit, False), path, report)
    return ArraySpec(_indices(Scalar(node.line, word, False), path, report), most)


def _indices(node: Node, _path: str, _report: Report) -> tuple[int, ...]:
    """Sorted indices of `0-99`, `1,3,5-7`, `0-98:2` or a list of such."""
    nodes = node.items if isinstance(node, Sequence) else [node]
    found: set[int] = set()
    named = 0
    for item in nodes:
        for part in word_of(item).split(","):
            indices = _range(part.strip())
            named += len(indices)
            if named > ARRAY_NAMED_MAX:
                raise ValueError(f"this names {named} indices, many of them again; write each once")
            found.update(indices)
            if len(found) > ARRAY_JOBS_MAX:
                raise ValueError(f"this makes more than {ARRAY_JOBS_MAX} jobs; split the array")
    if not found:
        raise ValueError("this names no index; write a range such as 0-99")
    return tuple(sorted(found))


def _range(part: str) -> range:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError(
            f"{shown(part)} is not a range of indices; write 0-99, 1,3,5-7 or 0-98:2, and %8 for 8 at once"
        )
    first = int(match[1])
    last = int(match[2] or first)
    step = int(match[3] or 1)
    if last < first or last > ARRAY_INDEX_MAX or step == 0:
        raise ValueError(f"{shown(part)} is not a usable range; write the smaller index first and a step above zero")
    if (last - first) // step >= ARRAY_JOBS_MAX:
        raise ValueError(f"{shown(part)} makes more than {ARRAY_JOBS_MAX} jobs; split the array")
    return range(first, last + 1, step)


_MAX_RUNNING = whole_of(1, ARRAY_JOBS_MAX, "the number of jobs that run at once")
_INDICES = Kind(
    _indices, {"anyOf": [{"type": ["string", "integer"]}, {"type": "array", "items": {"type": ["string", "integer"]}}]}
)
ARRAY_FIELDS = (
    Field("indices", _INDICES, "The indices.", "0-99", is_required=True),
    Field("max_running", _MAX_RUNNING, "How many may run at once.", "8", "no limit"),
)
ARRAY = Kind(
    _array,
    {
        "anyOf": [
            _INDICES.schema,
            {
                "type": "object",
                "properties": {one.key: {**one.kind.schema, "description": one.doc} for one in ARRAY_FIELDS},
                "additionalProperties": False,
                "required": ["indices"],
            },
        ]
    },
)
