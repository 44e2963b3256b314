"""A job in the making: the keys of a job file, from options, from Python arguments or from a job file on this machine.

Everything is checked by the one parser of job files, so the same mistake gets the same sentence wherever it was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from racksack.errors import UsageError
from racksack_jobspecs import yamltext
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.yamlscalar import quoted

Value = (
    str
    | int
    | float
    | bool
    | Iterable["Value"]
    | Mapping[str, "Value"]
    | yamltext.Scalar
    | yamltext.Sequence
    | yamltext.Mapping
)

_JOB_FILE_SUFFIXES = (".yaml", ".yml")
_OPTION_OF_KEY = {
    "gang": "--nodes",
    "oom_factor": "--oom-factor",
    "time_limit": "--time",
    "node": "--node",
    "nodes": "--node",
    "exclude": "--exclude-node",
    "labels": "--constraint",
    "outputs": "--out",
    "max_output": "--max-output",
    "retry_on": "--retry-on",
    "no_retry_on": "--no-retry-on",
    "notify": "--notify",
    "every": "--every",
    "retry_delay": "--retry-delay",
    "stage_in_ram": "--ramdisk",
    "resubmit_on": "--resubmit-on",
    "checkpoint_every": "--checkpoint-every",
    "no_wake": "--no-wake",
    "secrets": "--secret",
    "environment.index_url": "--index-url",
    "environment.extra_index_urls": "--extra-index-url",
    "environment": "--no-venv",
    "submission": "--submission-key",
    "args": "arguments",
    "entrypoint": "entrypoint",
    "project": "project",
}


def spec_of_options(values: Mapping[str, Value | None], in_words_of: Literal["options", "keys"] = "options") -> JobSpec:
    """The spec that options describe; None is not given. Raises UsageError with every mistake, in words of options, or
    of the keys that Python arguments are called by.
    """
    try:
        return parse_job(_text(values))
    except JobFileError as error:
        told = _in_words_of_options if in_words_of == "options" else _in_words_of_keys
        raise UsageError("\n".join(map(told, error.problems))) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def spec_of_file(path: Path, overrides: Mapping[str, Value | None]) -> tuple[JobSpec, Path]:
    """The spec of a job file whose `project` is a folder on this machine (default: the file's own), and that folder.

    Raises UsageError with every mistake and its line.
    """
    values, project = _read_file(path)
    lines = {key: value.line for key, value in values.items()}
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return parse_job(_text({**values, **given}, lines)), project
    except JobFileError as error:
        raise UsageError("\n".join(f"{path}: {problem}" for problem in error.problems)) from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def is_job_file(path: Path) -> bool:
    """Whether a path on the command line means a job file and not a project's folder."""
    return path.suffix in _JOB_FILE_SUFFIXES


def spec_of_command(
    project: Path, entrypoint: str | None, values: Mapping[str, Value | None], otherwise: str
) -> tuple[JobSpec, Path]:
    """The spec of `PROJECT ENTRYPOINT [options]` or `JOB.yaml [options]`, and the folder that is sent.

    Raises UsageError; with the sentence `otherwise` where there is neither an entrypoint nor a job file.
    """
    if entrypoint is not None:
        return spec_of_options({**values, "project": "local", "entrypoint": entrypoint}), project
    if not is_job_file(project):
        raise UsageError(otherwise)
    return spec_of_file(project, values)


def spec_of_text(text: str, overrides: Mapping[str, Value]) -> JobSpec:
    """The spec of a job file's text, with some keys replaced. Raises UsageError with every mistake and its line."""
    try:
        root = yamltext.load(text)
    except yamltext.YamlError as error:
        raise UsageError(str(error)) from None
    if not isinstance(root, yamltext.Mapping):
        raise UsageError("this is not a job file; write lines such as `entrypoint: main.py`")
    values = {key.text: value for key, value in root.entries}
    lines = {key: value.line for key, value in values.items()}
    try:
        return parse_job(_text({**values, **overrides}, lines))
    except JobFileError as error:
        raise UsageError("\n".join(map(str, error.problems))) from None


def _read_file(path: Path) -> tuple[dict[str, yamltext.Node], Path]:
    try:
        root = yamltext.load(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except yamltext.YamlError as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(root, yamltext.Mapping):
        raise UsageError(f"{path} is not a job file; write lines such as `entrypoint: main.py`")
    values: dict[str, yamltext.Node] = {}
    for key, value in root.entries:
        if key.text in values:
            raise UsageError(f"{path}: line {key.line}: {key.text} duplicate key; keep one of them")
        values[key.text] = value
    project = values.get("project")
    local = project.text if isinstance(project, yamltext.Scalar) else "."
    values["project"] = yamltext.Scalar(project.line if project else 1, "local", False)
    return values, path.parent / Path(local).expanduser()


def _text(values: Mapping[str, Value | None], lines: Mapping[str, int] | None = None) -> str:
    """A job file's text with each key on the line that `lines` gives, so that errors name the line of the original."""
    rows: list[str] = []
    placed = lines or {}
    for key, value in sorted(values.items(), key=lambda item: placed.get(item[0], 0)):
        if value is None:
            continue
        rows += [""] * (placed.get(key, 0) - 1 - len(rows))
        rows.append(f"{quoted(key)}: {_flow(value)}")
    return "\n".join(rows) + "\n"


def _flow(value: Value) -> str:
    """A value on one line of YAML."""
    if isinstance(value, yamltext.Scalar):
        return "~" if value.is_null else _flow(value.text)
    if isinstance(value, yamltext.Sequence):
        return _flow(value.items)
    if isinstance(value, yamltext.Mapping):
        return "{" + ", ".join(f"{_flow(key.text)}: {_flow(item)}" for key, item in value.entries) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        text = quoted(str(value))
        return text if text.startswith('"') else f'"{text}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(_flow(item) for item in value) + "]"


_SWEEP_OPTIONS = {
    "function": "FILE.py:FUNCTION",
    "params": "--param",
    "point_timeout": "--per-point-timeout",
    "max_fails": "--max-fails",
    "max_runners": "--max-runners",
    "chunk.target": "--chunk-target",
    "chunk.min": "--chunk-min",
    "chunk.max": "--chunk-max",
    "control.args": "--control-arg",
    "control.env": "--control-env",
    "search.count": "--count",
    "search.seed": "--seed",
    "search.population": "--population",
}


def _sweep_option(path: str) -> str:
    """The option that stands for a key of `sweep`, with the name behind it where it has one."""
    key, _, rest = path.partition(".")
    first, _, inner = rest.partition(".")
    if f"{key}.{first}" in _SWEEP_OPTIONS:
        return f"{_SWEEP_OPTIONS[f'{key}.{first}']} {inner}".strip()
    return f"{_SWEEP_OPTIONS.get(key.partition('[')[0], f'--{key}')} {first}".strip()


def _in_words_of_keys(problem: yamltext.Problem) -> str:
    return f"{problem.path}: {problem.sentence}" if problem.path else problem.sentence


def _in_words_of_options(problem: yamltext.Problem) -> str:
    if problem.path.startswith("sweep."):
        return f"{_sweep_option(problem.path.removeprefix('sweep.'))}: {problem.sentence}"
    if problem.path.startswith("env."):
        return f"--env {problem.path.removeprefix('env.')}: {problem.sentence}"
    key = problem.path.partition(".")[0].partition("[")[0]
    option = _OPTION_OF_KEY.get(key, f"--{key}" if key else "")
    return f"{option}: {problem.sentence}" if option else problem.sentence
