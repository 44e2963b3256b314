"""The one table of keys, the schema, the documentation and the spec say the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from racksack_jobspecs.array_field import ARRAY_FIELDS
from racksack_jobspecs.every_field import EVERY_FIELDS
from racksack_jobspecs.fields import ENVIRONMENT_FIELDS, JOB_FIELDS
from racksack_jobspecs.gpu_field import GPU_FIELDS
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.schema import field_table, job_schema
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.fields import CHUNK_FIELDS, CONTROL_FIELDS, SEARCH_FIELDS, SWEEP_FIELDS
from racksack_jobspecs.yamlplain import plain
from racksack_jobspecs.yamltext import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "job-file.md").read_text()
EXAMPLES = sorted((ROOT / "jobspecs" / "examples").glob("*.yaml"))
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """The part of JSON Schema that ours uses."""
    if "anyOf" in schema:
        return any(fits(value, choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(
        isinstance(value, TYPES[name]) and not (isinstance(value, bool) and name != "boolean") for name in names
    ):
        return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return all(key in value for key in schema.get("required", [])) and all(
            fits(item, properties[key] if key in properties else schema["additionalProperties"])
            for key, item in value.items()
            if key in properties or schema.get("additionalProperties") is not False
        )
    if isinstance(value, list):
        return all(fits(item, schema["items"]) for item in value)
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if value <= schema.get("exclusiveMinimum", value - 1):
        return False
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(job_schema()))["required"] == ["project", "entrypoint"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_fit_the_schema(path: Path) -> None:
    node = load(path.read_bytes())
    assert node is not None
    assert fits(plain(node), job_schema())


@pytest.mark.parametrize(
    "text", ["ram: 32", "cpus: -1", "hold: maybe", "entrypoint: /x", "entrypoint: a/../b", "project: a/b"]
)
def test_the_schema_refuses_what_the_parser_refuses(text: str) -> None:
    node = load(text)
    assert node is not None
    (key, value) = next(iter(plain(node).items()))
    assert not fits(value, job_schema()["properties"][key])


@pytest.mark.parametrize("field", JOB_FIELDS, ids=lambda field: field.key)
def test_each_example_value_is_valid_and_fits_the_schema(field: Any) -> None:
    rest = "".join(
        f"{key}: {value}\n" for key, value in (("project", "up1"), ("entrypoint", "m.py")) if key != field.key
    )
    parse_job(f"{rest}{field.key}: {field.example}\n")
    node = load(f"x: {field.example}")
    assert node is not None
    assert fits(plain(node)["x"], field.kind.schema)


def test_every_part_of_a_spec_has_a_key() -> None:
    named = {
        "resources": {"cpus", "ram", "gpus", "disk"},
        "time_limit_s": {"time_limit"},
        "max_output_bytes": {"max_output"},
        "begin_at_s": {"begin"},
        "deadline_at_s": {"deadline"},
        "nodes": {"node", "nodes"},
        "environment": {"environment", "python", "requirements"},
        "grace_s": {"grace"},
        "checkpoint_every_s": {"checkpoint_every"},
        "retry_delay_s": {"retry_delay"},
        "warn_s": {"warn"},
        "warn_signal": set(),
    }
    not_written = {"runner_of"}  # set by the controller
    keys = {key for part in JobSpec.__struct_fields__ for key in named.get(part, {part})} - not_written
    assert keys == {field.key for field in JOB_FIELDS}


@pytest.mark.parametrize(
    "fields",
    [
        JOB_FIELDS,
        GPU_FIELDS,
        ENVIRONMENT_FIELDS,
        ARRAY_FIELDS,
        EVERY_FIELDS,
        SWEEP_FIELDS,
        SEARCH_FIELDS,
        CHUNK_FIELDS,
        CONTROL_FIELDS,
    ],
    ids=["job", "gpus", "environment", "array", "every", "sweep", "search", "chunk", "control"],
)
def test_the_page_has_the_table(fields: Any) -> None:
    assert field_table(fields) in PAGE, f"docs/job-file.md should hold this table:\n{field_table(fields)}"


def test_the_page_names_examples_that_exist() -> None:
    named = re.findall(r"jobspecs/examples/([a-z]+\.yaml)", PAGE)
    assert sorted(named) == [path.name for path in EXAMPLES]
