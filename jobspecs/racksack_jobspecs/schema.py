"""The job file's JSON Schema (`racksack schema`) and the tables of the documentation, from the field tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from racksack_jobspecs.fields import JOB_FIELDS
from racksack_jobspecs.readers import Field


def job_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) that editors can check job files with. `parse_job` is stricter and has the last word."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "racksack job file",
        "type": "object",
        "additionalProperties": False,
        "required": [field.key for field in JOB_FIELDS if field.is_required],
        "properties": {field.key: {**field.kind.schema, "description": field.doc} for field in JOB_FIELDS},
    }


def field_table(fields: Iterable[Field]) -> str:
    """The keys as a Markdown table."""
    rows = ["| key | meaning | example | default |", "| --- | --- | --- | --- |"]
    for field in fields:
        default = "required" if field.is_required else field.default
        rows.append(f"| `{field.key}` | {field.doc} | `{field.example}` | {default} |".replace("  |", " |"))
    return "\n".join(rows) + "\n"
