"""Lists of jobs: `jobs:` of a sweep, or a file of JSON with `job_id, script, args, gpu_id`, or with groups of such."""

from __future__ import annotations

import json
import shlex

import msgspec

from racksack_jobspecs.readers import LINE, TEXT, Field, Report, attempt, read_fields, sequence_of, shown, whole_of
from racksack_jobspecs.sweep.spec import Script
from racksack_jobspecs.yamltext import Node, Scalar, Sequence

SCRIPTS_MAX = 20_000


def jobs_of(node: Node, path: str, report: Report) -> tuple[Script, ...]:
    """A list, or its JSON as one text (which is how `racksack sweep` writes it)."""
    if isinstance(node, Scalar):
        return _jobs_of_json(node.text)
    if not isinstance(node, Sequence):
        raise ValueError("this must be a list; write entries with job_id, script and args")
    found = [attempt(_job, item, f"{path}[{at}]", report) for at, item in enumerate(node.items)]
    return _checked_jobs([script for script in found if script is not None])


def _jobs_of_json(text: str) -> tuple[Script, ...]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("this is not JSON; write a list of objects with job_id, script and args") from None
    return _checked_jobs(scripts_of(entries))


def scripts_of(entries: object) -> list[Script]:
    """The jobs of a list as JSON has it; `groups` may hold them, by name. Raises ValueError with a sentence."""
    if isinstance(entries, dict):
        inner = entries.get("jobs", entries.get("groups", entries))
        if isinstance(inner, dict):
            return [script for name, group in inner.items() for script in _group(name, group)]
        entries = inner
    if not isinstance(entries, list):
        raise ValueError("this is not a list of jobs; write objects with job_id, script and args")
    return [_script(entry, at, f"entry {at} of the jobs") for at, entry in enumerate(entries)]


def _group(name: str, group: object) -> list[Script]:
    """A group is one job, or a list of them whose names begin with the group's."""
    if isinstance(group, list) and all(isinstance(item, dict) for item in group) and group:
        inner = [_script(item, at, f"entry {at} of the group {shown(name)}") for at, item in enumerate(group)]
        return [msgspec.structs.replace(one, job_id=f"{name}/{one.job_id}") for one in inner]
    if isinstance(group, dict):
        return [_script({"job_id": name, **group}, 0, f"the group {shown(name)}")]
    if isinstance(group, (list, str)):
        return [_script({"job_id": name, "args": group}, 0, f"the group {shown(name)}")]
    raise ValueError(f"the group {shown(name)} is neither a job nor a list of jobs")


_SCRIPT_KEYS = {
    "job_id": "job_id", "id": "job_id", "name": "job_id", "group": "job_id",
    "script": "script", "command": "script",
    "args": "args", "arguments": "args",
    "gpu_id": "gpu_id", "gpu": "gpu_id",
}  # fmt: skip


def _script(entry: object, at: int, where: str) -> Script:
    """One job. `at`: its name where it has none; `where`: how a sentence names it."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is not an object; write job_id, script and args")
    unknown = [key for key in entry if key not in _SCRIPT_KEYS]
    if unknown:
        raise ValueError(f"{where} has {shown(str(unknown[0]))}; use job_id, script, args and gpu_id")
    values = {_SCRIPT_KEYS[key]: value for key, value in entry.items()}
    gpu = values.get("gpu_id")
    if gpu is not None and (not isinstance(gpu, int) or isinstance(gpu, bool) or not 0 <= gpu < 1024):
        raise ValueError(f"{where}: gpu_id is not the number of a device")
    name = values.get("job_id", at)
    if not isinstance(name, (str, int)) or not 0 < len(str(name)) <= 100:
        raise ValueError(f"{where}: job_id is not a short text or a number")
    script = values.get("script", "")
    if not isinstance(script, str) or script.startswith(("/", "~")) or ".." in script.split("/"):
        raise ValueError(f"{where}: script is not a path inside the project")
    return Script(job_id=str(name), script=script, args=_arguments(values.get("args", []), where), gpu_id=gpu)


def _arguments(args: object, where: str) -> tuple[str, ...]:
    """A list of words, a line as a shell would split it, or a mapping of options."""
    if isinstance(args, str):
        try:
            return tuple(shlex.split(args))
        except ValueError:
            raise ValueError(f"{where}: args has a quote that is not closed; close it") from None
    if isinstance(args, dict):
        return tuple(word for name, value in args.items() for word in (f"--{name}", _word(value, where)))
    if isinstance(args, list):
        return tuple(_word(value, where) for value in args)
    raise ValueError(f"{where}: args is not a list of words")


def _word(value: object, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"{where}: an argument is neither a text nor a number")


def _job(node: Node, path: str, report: Report) -> Script:
    values = read_fields(node, path, SCRIPT_FIELDS, report, {"id": "job_id", "gpu": "gpu_id", "command": "script"})
    return Script(
        job_id=values.get("job_id", ""),
        script=values.get("script", ""),
        args=values.get("args", ()),
        gpu_id=values.get("gpu_id"),
    )


def _checked_jobs(found: list[Script]) -> tuple[Script, ...]:
    if not found:
        raise ValueError("this names no job; write at least one")
    if len(found) > SCRIPTS_MAX:
        raise ValueError(f"there are {len(found)} jobs; write at most {SCRIPTS_MAX} in one sweep")
    return tuple(found)


SCRIPT_FIELDS = (
    Field("job_id", LINE, "Its name in lists and exports.", "job-1", is_required=True),
    Field("script", LINE, "A program of the project.", "train.py", "the entrypoint"),
    Field("args", sequence_of(TEXT), "Its words.", '["--lr", "0.1"]', "none"),
    Field(
        "gpu_id",
        whole_of(0, 1023, "the number of a device"),
        "The GPU by whose worker it is run first, where a runner holds it; an idle one takes any.",
        "0",
        "none",
    ),
)
