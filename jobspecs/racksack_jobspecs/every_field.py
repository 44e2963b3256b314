"""The key `every` of a job file: when a recurring job is submitted."""

from __future__ import annotations

import zoneinfo

from racksack_jobspecs.readers import Field, Kind, Report, one_of, read_fields, shown, word_of
from racksack_jobspecs.recurrence import Recurrence, cron_of
from racksack_jobspecs.yamltext import Mapping, Node


def _at(node: Node, _path: str, _report: Report) -> str:
    return cron_of(word_of(node))


def _zone(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    try:
        zoneinfo.ZoneInfo(word)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{shown(word)} is not a time zone; write one such as Europe/Berlin or UTC") from None
    return word


EVERY_FIELDS = (
    Field("at", Kind(_at, {"type": "string"}), "When.", "Mon 02:00", is_required=True),
    Field("zone", Kind(_zone, {"type": "string"}), "The time zone.", "Europe/Berlin", "the controller's"),
    Field(
        "overlap",
        one_of("skip", "queue"),
        "While the run before is not over: skip leaves this one out, queue has it wait.",
        "queue",
        "skip",
    ),
)


def _every(node: Node, path: str, report: Report) -> Recurrence:
    if not isinstance(node, Mapping):
        return Recurrence(cron_of(word_of(node)))
    values = read_fields(
        node, path, EVERY_FIELDS, report, {"cron": "at", "when": "at", "timezone": "zone", "tz": "zone"}
    )
    return Recurrence(values.get("at", ""), values.get("zone", ""), values.get("overlap", "skip"))


EVERY = Kind(
    _every,
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {one.key: {**one.kind.schema, "description": one.doc} for one in EVERY_FIELDS},
                "additionalProperties": False,
                "required": ["at"],
            },
        ]
    },
)
