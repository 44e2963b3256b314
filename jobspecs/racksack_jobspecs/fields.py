"""The one table of the job file's keys: parser, JSON Schema and docs/job-file.md all come from it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from racksack_jobspecs import data
from racksack_jobspecs.array_field import ARRAY
from racksack_jobspecs.channels import channel_of
from racksack_jobspecs.dependency import parse_dependencies
from racksack_jobspecs.endings import checkpoint_every_of, warn_of
from racksack_jobspecs.every_field import EVERY
from racksack_jobspecs.failures import failures_of
from racksack_jobspecs.gpu_field import GPUS
from racksack_jobspecs.index_field import INDEX
from racksack_jobspecs.readers import (
    CPUS,
    DURATION,
    ENV,
    FLAG,
    GLOB,
    LABEL,
    LINE,
    MEMORY,
    NODE,
    PATH,
    TEXT,
    Field,
    Kind,
    Report,
    list_of,
    matching,
    number_of,
    one_of,
    read_fields,
    sequence_of,
    shown,
    whole_of,
    word_of,
)
from racksack_jobspecs.spec import Dependency, Environment
from racksack_jobspecs.sweep.fields import SWEEP_FIELDS
from racksack_jobspecs.sweep.parse import read_sweep
from racksack_jobspecs.yamltext import Mapping, Node

GANG_MAX = 4096
OOM_FACTOR_MAX = 100
BEGIN_AT_S_MAX = 253_402_300_799  # the last second of the year 9999

_UPLOAD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_SNAPSHOT = re.compile(r"snapshot:[0-9a-f]{64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PYTHON = re.compile(r"3(?:\.[0-9]{1,2}){0,2}")
_SUBMISSION = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_EXTRA_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")


def _project(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    if word.startswith("snapshot:") and not _SNAPSHOT.fullmatch(word):
        raise ValueError(f"{shown(word)} is not a snapshot; write snapshot: and its 64 hexadecimal digits")
    if not _SNAPSHOT.fullmatch(word) and not _UPLOAD.fullmatch(word):
        raise ValueError(f"{shown(word)} is not the name of a folder in incoming/; use letters, digits, dots, - and _")
    return word


def _after(node: Node, path: str, report: Report) -> tuple[Dependency, ...]:
    found: tuple[tuple[Dependency, ...], ...] = _DEPENDENCY_WORDS.read(node, path, report)
    return tuple(dict.fromkeys(one for several in found for one in several))


_DEPENDENCY_WORDS = list_of(
    Kind(lambda node, _path, _report: parse_dependencies(word_of(node)), {"type": ["string", "integer"]}),
    splits_at_commas=True,
)


def _environment(node: Node, path: str, report: Report) -> Environment:
    if isinstance(node, Mapping):
        return Environment(**read_fields(node, path, ENVIRONMENT_FIELDS, report))
    return Environment(kind=ENVIRONMENT_KIND.read(node, path, report))


ENVIRONMENT_KIND = one_of("auto", "requirements", "pyproject", "lock", "none")
_PYTHON_KIND = Kind(
    matching(_PYTHON, "is not a Python version; write one such as 3.11 or 3.12.4"),
    {"type": ["string", "number"], "pattern": f"^{_PYTHON.pattern}$"},
)
_EXTRA = Kind(
    matching(_EXTRA_NAME, "is not the name of an extra or group; write letters, digits, dots, - and _"),
    {"type": "string", "pattern": f"^{_EXTRA_NAME.pattern}$"},
)
_SECRET = Kind(
    matching(
        re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}"), "is not the name of a secret; write one such as WANDB_API_KEY"
    ),
    {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$"},
)
ENVIRONMENT_FIELDS = (
    Field(
        "kind",
        ENVIRONMENT_KIND,
        "Where the packages are listed; auto looks for it, see below.",
        "lock",
        "auto",
    ),
    Field("file", PATH, "The file, where it does not have its usual name.", "deploy/uv.lock", "the usual name"),
    Field("python", _PYTHON_KIND, "The Python version.", '"3.11"', "the node's"),
    Field("extras", list_of(_EXTRA), "Optional dependencies of the pyproject.toml (`--extra`).", "[gpu]", "none"),
    Field("groups", list_of(_EXTRA), "Dependency groups of the pyproject.toml (`--group`).", "[plots]", "none"),
    Field(
        "index_url",
        INDEX,
        "The package index; ${NAME} in it is a secret.",
        "https://index.example/simple",
        "the node's",
    ),
    Field(
        "extra_index_urls", list_of(INDEX), "Further ones.", '["https://${USER}:${TOKEN}@other.example/simple"]', "none"
    ),
)


def _begin(node: Node, _path: str, _report: Report) -> float:
    word = word_of(node)
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", word):
        return _checked_begin(float(word), word)
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        raise ValueError(f"{shown(word)} is not a time; write one such as 2026-08-01T20:00:00+02:00") from None
    if moment.tzinfo is None:
        raise ValueError(f"{shown(word)} has no time zone; add one, such as {moment.isoformat()}+00:00 for UTC")
    return _checked_begin((moment - datetime.fromtimestamp(0, UTC)).total_seconds(), word)


def _checked_begin(begin_at_s: float, word: str) -> float:
    if not 0 <= begin_at_s <= BEGIN_AT_S_MAX:
        raise ValueError(f"{shown(word)} is outside the years 1970 to 9999; write a later or earlier time")
    return begin_at_s


def _oom_factor(node: Node, _path: str, _report: Report) -> float:
    factor = number_of(node)
    if not 1 <= factor <= OOM_FACTOR_MAX:
        raise ValueError(
            f"{shown(word_of(node))} is not a factor; write a number from 1 to {OOM_FACTOR_MAX}, such as 1.5"
        )
    return factor


def _object(fields: tuple[Field, ...]) -> dict[str, Any]:
    required = [field.key for field in fields if field.is_required]
    properties = {field.key: {**field.kind.schema, "description": field.doc} for field in fields}
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": required}


_ENVIRONMENT = Kind(_environment, {"anyOf": [ENVIRONMENT_KIND.schema, _object(ENVIRONMENT_FIELDS)]})
_PROJECT = Kind(_project, {"type": "string", "pattern": f"^({_UPLOAD.pattern}|{_SNAPSHOT.pattern})$"})
_DIGEST_KIND = Kind(
    matching(_DIGEST, "is not a digest; write its 64 hexadecimal digits"),
    {"type": "string", "pattern": f"^{_DIGEST.pattern}$"},
)
_SUBMISSION_KIND = Kind(
    matching(_SUBMISSION, "cannot be a submission key; write letters, digits and . _ : - (at most 200)"),
    {"type": "string", "pattern": f"^{_SUBMISSION.pattern}$"},
)

JOB_FIELDS = (
    Field("name", LINE, "The job's name in lists and folders.", "mlp-train", "the entrypoint's name"),
    Field(
        "project",
        _PROJECT,
        "The folder in incoming/ that holds the project, or snapshot:DIGEST of content that you uploaded before.",
        "mlp-20260801-x7f2",
        is_required=True,
    ),
    Field(
        "digest",
        _DIGEST_KIND,
        "The digest that an upload must have; the job is refused when something else arrived.",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "any content",
    ),
    Field(
        "entrypoint", PATH, "The Python script or executable to run, inside the project.", "main.py", is_required=True
    ),
    Field("args", sequence_of(TEXT), "Its arguments. No shell reads them.", '[--epochs, "10"]', "none"),
    Field("cpus", CPUS, "CPU cores, whole or in parts.", "16", "1"),
    Field("ram", MEMORY, "Main memory, with its unit. A job that takes more is ended as oom.", "32G", "1G"),
    Field("gpus", GPUS, "GPUs: a number, a share below 1, model:number, or a mapping.", '"rtx3090:2"', "0"),
    Field("disk", MEMORY, "Free disk space that the node must have.", "20G", "0"),
    Field("time_limit", DURATION, "The job is ended as timeout after this time.", "2h", "the controller's default"),
    Field("env", ENV, "Environment variables.", "{SEED: 7}", "none"),
    Field(
        "secrets",
        list_of(_SECRET, splits_at_commas=True),
        "Secrets of racksack.yaml that it finds as environment variables; masked in its logs.",
        "[WANDB_API_KEY]",
        "none",
    ),
    Field("environment", _ENVIRONMENT, "Where the packages are listed, or none for no venv.", "lock", "auto"),
    Field("python", _PYTHON_KIND, "The Python version of the venv.", '"3.11"', "the node's"),
    Field(
        "requirements",
        PATH,
        "The requirements file; short for environment: requirements with that file.",
        "req.txt",
        "requirements.txt",
    ),
    Field(
        "outputs",
        list_of(GLOB),
        "Files to bring back besides everything in $RACKSACK_RETURN_DIR: patterns relative to the project.",
        '["models/*.pt"]',
        "none",
    ),
    Field(
        "new_files",
        one_of("small", "all", "none"),
        "Which new and changed files of the project folder come back by themselves: those up to 10M each, 100M and 1000"
        " files together; all; or none.",
        "none",
        "small",
    ),
    Field(
        "max_output",
        MEMORY,
        "Bring back at most this much: small files first; the rest stays on the node for a day.",
        "1G",
        "10G",
    ),
    Field(
        "retries",
        whole_of(0, 1000, "the number of retries"),
        "How often a failed job is retried; 3 where retry_on is given.",
        "2",
        "0",
    ),
    Field(
        "retry_on",
        failures_of("exit", "oom", "timeout", "node"),
        "Which failures are retried; exit:29 is one exit code. A job whose node was lost is always requeued.",
        '["exit:29", oom]',
        "[exit, oom, timeout]",
    ),
    Field(
        "no_retry_on",
        failures_of("exit", "oom", "timeout"),
        "Which of those are not retried after all.",
        '"exit:2"',
        "none",
    ),
    Field(
        "retry_delay",
        DURATION,
        "The wait before the first retry; each further one waits twice as long, at most an hour.",
        "5m",
        "1s",
    ),
    Field(
        "oom_factor",
        Kind(_oom_factor, {"type": "number", "minimum": 1, "maximum": OOM_FACTOR_MAX}),
        "After oom, retry with this many times the memory, at most what a node has. Implies 3 retries unless set.",
        "1.5",
        "1",
    ),
    Field(
        "data",
        Kind(
            data.read,
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "object"]}}]},
        ),
        "Data sets that it reads, shared and read-only: NAME, NAME@v3, NAME:path/in/project.",
        '["prices@v3", "images:data/images"]',
        "none",
    ),
    Field("partition", NODE, "The set of nodes that it runs in.", "night", "the default one, else all nodes"),
    Field("priority", whole_of(-1000, 1000, "the priority"), "Higher goes first.", "10", "0"),
    Field(
        "after",
        Kind(_after, _DEPENDENCY_WORDS.schema),
        "Jobs, arrays or sweeps that must have ended done first, by id or name; any:ID accepts any end.",
        '[41, "any:42"]',
        "none",
    ),
    Field("labels", list_of(LABEL, splits_at_commas=True), "Labels that the node must have.", "[epyc]", "none"),
    Field("nodes", list_of(NODE, splits_at_commas=True), "Only these nodes.", "[r1, r2]", "any"),
    Field("node", NODE, "Only this node.", "r1", "any"),
    Field("exclude", list_of(NODE, splits_at_commas=True), "None of these nodes.", "[r3]", "none"),
    Field(
        "array",
        ARRAY,
        "One job for each index, which it finds in RACKSACK_ARRAY_INDEX; %N lets N run at once.",
        '"0-99%8"',
        "none",
    ),
    Field(
        "sweep",
        Kind(
            read_sweep,
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {field.key: {**field.kind.schema, "description": field.doc} for field in SWEEP_FIELDS},
            },
        ),
        "Many points of one function or program instead of a single run; its keys are below.",
        "{function: evaluate, params: {x: 1:10:1}}",
        "none",
    ),
    Field(
        "shared",
        list_of(GLOB),
        "Files and folders of the project that are not copied for each job, but linked, read-only.",
        '["data", "models/*.bin"]',
        "none",
    ),
    Field(
        "stage_in_ram",
        list_of(PATH),
        "Paths of the project that are copied to RAM on the node.",
        "[data/prices.bin]",
        "none",
    ),
    Field("hold", FLAG, "Hold it until `racksack release`.", "true", "false"),
    Field(
        "begin",
        Kind(_begin, {"type": ["string", "number"]}),
        "Do not start before this time: ISO 8601 with a zone, or Unix seconds.",
        '"2026-08-01T20:00:00+02:00"',
        "at once",
    ),
    Field("no_wake", FLAG, "Do not switch a node on for this job.", "true", "false"),
    Field(
        "deadline",
        Kind(_begin, {"type": ["string", "number"]}),
        "When it should have finished, written like begin. It moves the job ahead but guarantees nothing.",
        '"2026-08-02T08:00:00+02:00"',
        "none",
    ),
    Field(
        "gang",
        whole_of(1, GANG_MAX, "the number of ranks"),
        "Nodes that it runs on at once (`--nodes`): a rank on each, with these resources; all start together.",
        "4",
        "1",
    ),
    Field(
        "preemptible",
        FLAG,
        "It may be stopped and requeued for a job of higher priority, where the rack's owner allows it.",
        "true",
        "false",
    ),
    Field(
        "grace",
        DURATION,
        "Time to save its work after the signal to end; then it is killed. The controller sets a maximum.",
        "2m",
        "the controller's default, 10s",
    ),
    Field(
        "warn",
        Kind(warn_of, {"type": ["string", "number"]}),
        "Send this signal (USR1 if none is named) to the program this long before its time limit or its preemption.",
        '"120s:USR1"',
        "none",
    ),
    Field(
        "resubmit_on",
        list_of(whole_of(1, 255, "an exit code"), splits_at_commas=True),
        'Exit codes that mean "I have saved, run me again": it is requeued, which does not count as a retry.',
        "[85]",
        "none",
    ),
    Field(
        "notify",
        list_of(Kind(channel_of, {"type": "string"}), splits_at_commas=True),
        "Who is told of its end: names of `notify:` in racksack.yaml, or NAME:failed, NAME:done, NAME:cancelled.",
        '["telegram:failed"]',
        "those for all jobs",
    ),
    Field(
        "checkpoint",
        list_of(GLOB),
        "What it saves to go on from later: a folder or patterns. It is kept while the job runs, and the next attempt"
        " finds it in its place.",
        "ckpt",
        "none",
    ),
    Field(
        "checkpoint_every",
        Kind(checkpoint_every_of, DURATION.schema),
        "How often the checkpoint is brought to the controller.",
        "5m",
        "10m",
    ),
    Field(
        "slurm_env",
        FLAG,
        "Set SLURM_JOB_ID, SLURM_ARRAY_TASK_ID, SLURM_CPUS_PER_TASK and others too, as scripts for Slurm want.",
        "true",
        "false",
    ),
    Field(
        "every",
        EVERY,
        "Not a job but a recurring one, submitted anew at these times: plain words, cron's five fields, or a mapping.",
        "Mon 02:00",
        "once",
    ),
    Field(
        "interactive",
        FLAG,
        "Its standard input is the terminal that `racksack attach` shows; else it is empty.",
        "true",
        "false",
    ),
    Field(
        "submission",
        _SUBMISSION_KIND,
        "A key of your choice, new for each submission: two files of yours with the same key are one job.",
        "laptop-20260801-x7f2",
        "made from the file",
    ),
)

FAMILIAR_KEYS = {
    "mem": "ram",
    "memory": "ram",
    "cpu": "cpus",
    "cores": "cpus",
    "threads": "cpus",
    "cpus_per_task": "cpus",
    "gpu": "gpus",
    "gres": "gpus",
    "time": "time_limit",
    "timeout": "time_limit",
    "walltime": "time_limit",
    "script": "entrypoint",
    "command": "entrypoint",
    "main": "entrypoint",
    "arguments": "args",
    "dir": "project",
    "workdir": "project",
    "folder": "project",
    "job_name": "name",
    "depends_on": "after",
    "dependency": "after",
    "constraint": "labels",
    "tags": "labels",
    "nnodes": "gang",
    "num_nodes": "gang",
    "nodelist": "nodes",
    "host": "node",
    "ramdisk": "stage_in_ram",
    "output": "outputs",
    "id": "submission",
    "signal": "warn",
    "kill_wait": "grace",
    "checkpoints": "checkpoint",
    "checkpoint_dir": "checkpoint",
    "checkpoint_interval": "checkpoint_every",
    "stdin": "interactive",
    "tty": "interactive",
}
