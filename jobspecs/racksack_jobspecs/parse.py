"""Job file -> JobSpec, or every mistake in it at once.

The file is untrusted. Whatever it holds, `parse_job` returns a spec whose every value is within bounds, or raises
`JobFileError`; it looks at nothing but the text, so the client and the controller reach the same verdict.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from racksack_jobspecs.fields import FAMILIAR_KEYS, JOB_FIELDS
from racksack_jobspecs.index_field import missing_secret
from racksack_jobspecs.readers import NAME_CHARS_MAX, Report, read_fields
from racksack_jobspecs.resources import GpuRequest, ResourceRequest
from racksack_jobspecs.spec import Environment, JobSpec
from racksack_jobspecs.sweep.parse import entrypoint_fault, with_entrypoint
from racksack_jobspecs.sweep.spec import SweepSpec
from racksack_jobspecs.yamltext import Mapping, Problem, Scalar, YamlError, load

_TO_SPEC = {
    "args": "args",
    "time_limit": "time_limit_s",
    "env": "env",
    "secrets": "secrets",
    "outputs": "outputs",
    "new_files": "new_files",
    "max_output": "max_output_bytes",
    "retries": "retries",
    "retry_on": "retry_on",
    "no_retry_on": "no_retry_on",
    "retry_delay": "retry_delay_s",
    "oom_factor": "oom_factor",
    "partition": "partition",
    "priority": "priority",
    "after": "after",
    "labels": "labels",
    "exclude": "exclude",
    "array": "array",
    "data": "data",
    "shared": "shared",
    "stage_in_ram": "stage_in_ram",
    "hold": "hold",
    "begin": "begin_at_s",
    "no_wake": "no_wake",
    "deadline": "deadline_at_s",
    "gang": "gang",
    "preemptible": "preemptible",
    "grace": "grace_s",
    "resubmit_on": "resubmit_on",
    "notify": "notify",
    "slurm_env": "slurm_env",
    "checkpoint": "checkpoint",
    "checkpoint_every": "checkpoint_every_s",
    "every": "every",
    "interactive": "interactive",
    "digest": "digest",
    "submission": "submission",
}
RETRIES = 3  # of a job that says after what it is retried, and not how often
_TO_RESOURCES = {"cpus": "cpus", "ram": "ram_bytes", "gpus": "gpus", "disk": "disk_bytes"}


class JobFileError(ValueError):
    """A job file that cannot be a job; `problems` are all that is wrong with it, `submission` its key if legible."""

    def __init__(self, problems: Sequence[Problem], submission: str = "") -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.submission = submission


def parse_job(text: str | bytes) -> JobSpec:
    """The spec of a job file's text. Raises JobFileError with every mistake, in the order of the file."""
    try:
        root = load(text)
    except YamlError as error:
        raise JobFileError([error.problem]) from None
    if root is None or (isinstance(root, Scalar) and root.is_null):
        raise JobFileError([Problem(1, "", "the file is empty; write at least project and entrypoint")])
    if not isinstance(root, Mapping):
        raise JobFileError([Problem(root.line, "", "a job file is a mapping; write lines such as entrypoint: main.py")])
    report = Report()
    values = read_fields(root, "", JOB_FIELDS, report, FAMILIAR_KEYS)
    lines = {key.text: key.line for key, _ in root.entries}
    nodes = _nodes(values, lines, report)
    environment = _environment(values, lines, report)
    _check_sweep(values, lines, report)
    _check_after(values, lines, report)
    _check_retries(values, lines, report)
    _check_checkpoint(values, lines, report)
    _check_shared(values, lines, report)
    if report.problems:
        raise JobFileError(report.sorted(), values.get("submission", ""))
    return _spec(values, nodes, environment)


def _spec(values: dict[str, Any], nodes: tuple[str, ...], environment: Environment) -> JobSpec:
    resources = {field: values[key] for key, field in _TO_RESOURCES.items() if key in values}
    gpus = resources.get("gpus")
    if isinstance(gpus, GpuRequest) and gpus.count == 0:
        resources["gpus"] = None
    sweep: SweepSpec | None = values.get("sweep")
    if sweep is not None:
        ram = values.get("stage_in_ram", ())
        sweep = with_entrypoint(sweep, values["entrypoint"], values.get("args", ()), ram)
    return JobSpec(
        sweep=sweep,
        name=values.get("name") or _name_of(values["entrypoint"]),
        project=values["project"],
        entrypoint=values["entrypoint"],
        resources=ResourceRequest(**resources),
        nodes=nodes,
        environment=environment,
        **({"warn_s": values["warn"].before_s, "warn_signal": values["warn"].signal} if "warn" in values else {}),
        **{field: values[key] for key, field in _TO_SPEC.items() if key in values},
    )


def _check_sweep(values: dict[str, Any], lines: dict[str, int], report: Report) -> None:
    """What a sweep does not go together with."""
    if "sweep" not in values:
        return
    if "array" in values:
        report.add(lines["array"], "array", "stands beside sweep, which is many points already; remove one of the two")
    if values.get("gang", 1) > 1:
        report.add(lines["gang"], "gang", "stands beside sweep, whose runners start alone; remove one of the two")
    if "entrypoint" in values:
        fault = entrypoint_fault(values["sweep"], values["entrypoint"], values.get("args", ()))
        if fault is not None:
            report.add(lines[fault[0]], *fault)


def _name_of(entrypoint: str) -> str:
    """A name for a job whose file gives none."""
    stem = posixpath.splitext(posixpath.basename(entrypoint))[0]
    return "".join(char if char.isprintable() else "_" for char in stem)[:NAME_CHARS_MAX].strip() or "job"


def _nodes(values: dict[str, Any], lines: dict[str, int], report: Report) -> tuple[str, ...]:
    """`node: r1` is short for `nodes: [r1]`."""
    if "node" in values and "nodes" in values:
        report.add(lines["node"], "node", "stands beside nodes; write all names into nodes")
    nodes: tuple[str, ...] = (values["node"],) if "node" in values else values.get("nodes", ())
    excluded = frozenset(values.get("exclude", ()))
    both = [name for name in nodes if name in excluded]
    if both:
        report.add(lines["exclude"], "exclude", f"{both[0]} is asked for and excluded; remove it from one of them")
    return nodes


def _check_retries(values: dict[str, Any], lines: dict[str, int], report: Report) -> None:
    """`retry_on` and `oom_factor` ask for retries, so there have to be some."""
    if "retry_on" in values:
        values.setdefault("retries", RETRIES)
    if values.get("oom_factor", 1.0) == 1.0:
        return
    if "oom" not in values.get("retry_on", ("oom",)):
        report.add(lines["oom_factor"], "oom_factor", "has no use without oom in retry_on; add it there")
    if values.setdefault("retries", RETRIES) == 0:
        report.add(lines["oom_factor"], "oom_factor", "has no use without retries; leave retries out, or write 3")


def _check_checkpoint(values: dict[str, Any], lines: dict[str, int], report: Report) -> None:
    """Checkpoints are of one program's run."""
    if "checkpoint" in values and "sweep" in values:
        report.add(lines["checkpoint"], "checkpoint", "stands beside sweep, whose points start anew; remove it")


def _check_shared(values: dict[str, Any], lines: dict[str, int], report: Report) -> None:
    """What is copied to RAM is no link, and what the program saves can be written."""
    shared = {path.rstrip("/") for path in values.get("shared", ())}
    for key in ("stage_in_ram", "checkpoint"):
        both = [path for path in values.get(key, ()) if path.rstrip("/") in shared]
        if both:
            report.add(lines["shared"], "shared", f"{both[0]} stands in {key}, too; remove it from one of the two")


def _check_after(values: dict[str, Any], lines: dict[str, int], report: Report) -> None:
    """`aftercorr` pairs the elements of two arrays, so this job has to be one."""
    if "array" not in values and any(one.condition == "corr" for one in values.get("after", ())):
        report.add(lines["after"], "after", "has aftercorr, which pairs elements of arrays; write afterok, or an array")


def _environment(values: dict[str, Any], lines: dict[str, int], report: Report) -> Environment:
    """Join `environment`, `python` and `requirements` into one value; they must not contradict each other."""
    environment: Environment = values.get("environment", Environment())
    kind, file, python = environment.kind, environment.file, environment.python
    if "requirements" in values:
        if kind not in ("auto", "requirements") or file is not None:
            report.add(lines["requirements"], "requirements", "contradicts environment; remove one of the two")
        kind, file = "requirements", values["requirements"]
    elif file is not None and kind in ("auto", "none"):
        report.add(
            lines["environment"], "environment.file", f"has no use with kind {kind}; say which kind of file it is"
        )
    if "python" in values:
        if python is not None:
            report.add(lines["python"], "python", "stands in environment too; remove one of the two")
        python = values["python"]
    if kind == "none" and python is not None:
        report.add(
            lines.get("python", lines.get("environment", 0)),
            "python",
            "has no use without a venv; remove it or environment: none",
        )
    urls = (environment.index_url, *environment.extra_index_urls)
    missing = missing_secret(urls, values.get("secrets", ()))
    if missing is not None:
        report.add(lines["environment"], "environment", missing)
    if kind == "none" and any(urls):
        report.add(lines["environment"], "environment", "names an index, and there is no venv; remove one of the two")
    return replace(environment, kind=kind, file=file, python=python)
