"""The key `data` of a job file: content that jobs read and do not own.

    data: [prices, "images@v3:data/images", {name: labels, from: UPLOAD or snapshot:DIGEST, path: data/labels}]

A job finds it at $RACKSACK_DATA_DIR/NAME, and under `path` of its project where that is named. Without a version it is
the newest one of that name; `from` makes it the newest one first.
"""

from __future__ import annotations

import re

from racksack_jobspecs.readers import PATH, Field, Kind, Report, matching, read_fields, shown, whole_of, word_of
from racksack_jobspecs.spec import DataUse
from racksack_jobspecs.yamltext import Mapping, Node, Sequence

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
DATA_MAX = 50  # of one job
VERSION_MAX = 1_000_000
_SHORT = re.compile(r"([^@:]+)(?:@v?([0-9]{1,7}))?(?::(.+))?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FROM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}|snapshot:[0-9a-f]{64}")

_FIELDS = (
    Field(
        "name",
        Kind(matching(NAME, "is not a name of a data set; write letters, digits, dots, - and _"), {"type": "string"}),
        "Its name.",
        "prices",
        is_required=True,
    ),
    Field("version", whole_of(1, VERSION_MAX, "a version"), "Which version.", "3", "the newest"),
    Field(
        "from",
        Kind(matching(_FROM, "is neither an upload in incoming/ nor snapshot:DIGEST"), {"type": "string"}),
        "Content that becomes the newest version first.",
        "u-7f2a",
        "none",
    ),
    Field(
        "digest",
        Kind(matching(_DIGEST, "is not a digest; write its 64 hexadecimal digits"), {"type": "string"}),
        "The digest that an upload must have.",
        "9f86...",
        "any",
    ),
    Field("path", PATH, "Where it appears in the project, too.", "data/prices", "nowhere"),
)


def read(node: Node, path: str, report: Report) -> tuple[DataUse, ...]:
    """All data sets of a job. Raises ValueError."""
    items = node.items if isinstance(node, Sequence) else [node]
    found = []
    for at, item in enumerate(items):
        where = f"{path}[{at}]" if isinstance(node, Sequence) else path
        if isinstance(item, Mapping):
            values = read_fields(item, where, _FIELDS, report)
            if "name" in values:
                found.append(
                    DataUse(
                        values["name"],
                        values.get("version"),
                        values.get("from", ""),
                        values.get("digest", ""),
                        values.get("path", ""),
                    )
                )
        else:
            found.append(parse(word_of(item)))
    if len(found) > DATA_MAX:
        raise ValueError(f"there are {len(found)} data sets; a job can have {DATA_MAX}")
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{shown(twice)} is named twice; a job sees one version of a data set")
    return tuple(found)


def parse(text: str) -> DataUse:
    """`NAME[@vN][:PATH]`. Raises ValueError."""
    match = _SHORT.fullmatch(text)
    if match is None or not NAME.fullmatch(match[1]):
        raise ValueError(f"{shown(text)} is not a data set; write NAME, NAME@v3 or NAME:path/in/project")
    inner = match[3] or ""
    if inner.startswith("/") or ".." in inner.split("/"):
        raise ValueError(f"{shown(inner)} points outside the project; write a path inside it")
    return DataUse(match[1], int(match[2]) if match[2] else None, path=inner)
