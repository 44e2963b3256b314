"""The Python API: `racksack.submit(...)` and what it returns. The commands do nothing that cannot be done from here.

job = racksack.submit("./project", "main.py", cpus=16, ram="32G", args=["--epochs", "10"])
if job.wait() == "done":
folder = job.fetch()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

from racksack.client import Client
from racksack.job_objects import Job, JobArray
from racksack.submission.draft import Value, spec_of_options
from racksack.views import JobView, NodeView
from racksack_jobspecs.spec import JobSpec

Duration = str | timedelta
Moment = str | float | datetime


class SubmitOptions(TypedDict, total=False):
    """What a job may be given; sizes and durations as on the command line (`"32G"`, `"2h"`)."""

    args: Sequence[str]
    name: str
    cpus: float
    ram: str
    gpus: int | float | str | Mapping[str, str | float]
    disk: str
    time_limit: Duration
    env: Mapping[str, str]
    secrets: Sequence[str]
    environment: str | Mapping[str, str | Sequence[str]]
    python: str
    requirements: str
    outputs: Sequence[str]
    new_files: str
    max_output: str
    retries: int
    retry_on: Sequence[str]
    no_retry_on: Sequence[str]
    notify: Sequence[str]
    retry_delay: Duration
    oom_factor: float
    priority: int
    partition: str
    after: Sequence[int | str | Job]
    labels: Sequence[str]
    nodes: Sequence[str]
    exclude_nodes: Sequence[str]
    shared: Sequence[str]
    stage_in_ram: Sequence[str]
    gang: int
    begin: Moment
    deadline: Moment
    hold: bool
    no_wake: bool
    preemptible: bool
    grace: Duration
    warn: str
    resubmit_on: Sequence[int]
    checkpoint: str | Sequence[str]
    checkpoint_every: Duration
    interactive: bool
    submission: str
    include: Sequence[str]
    exclude: Sequence[str]
    data: Sequence[str]


@overload
def submit(
    project: str | Path,
    entrypoint: str,
    *,
    controller: str | Client | None = None,
    **options: Unpack[SubmitOptions],
) -> Job: ...


@overload
def submit(
    project: str | Path,
    entrypoint: str,
    *,
    array: str | Iterable[int],
    controller: str | Client | None = None,
    **options: Unpack[SubmitOptions],
) -> JobArray: ...


def submit(
    project: str | Path,
    entrypoint: str,
    *,
    array: str | Iterable[int] | None = None,
    controller: str | Client | None = None,
    **options: Unpack[SubmitOptions],
) -> Job | JobArray:
    """Submit a job; with `array` (`"0-9%2"`, `range(10)`) a JobArray with a job for each index.

    Raises UsageError for arguments that make no job, ProjectError for a project that cannot be sent,
    NeverRunnableError, UnreachableError, TransferError, and TypeError for an option that there is not.
    """
    _check_names(options)
    given: dict[str, Any] = dict(options)
    sent = {key: tuple(given.pop(key, ())) for key in ("include", "exclude", "data")}
    values = {_KEYS.get(key, key): _value(value) for key, value in given.items()}
    if array is not None:
        values["array"] = array if isinstance(array, str) else ",".join(map(str, array))
    spec = spec_of_options({"project": "local", "entrypoint": entrypoint, **values}, in_words_of="keys")
    made = submit_spec(spec, Path(project), controller=controller, **sent)
    return JobArray(tuple(made)) if array is not None else made[0]


_KEYS = {"exclude_nodes": "exclude"}


def _check_names(options: Mapping[str, object]) -> None:
    unknown = [name for name in options if name not in SubmitOptions.__annotations__]
    if unknown:
        import difflib

        close = difflib.get_close_matches(unknown[0], SubmitOptions.__annotations__, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(SubmitOptions.__annotations__)}"
        raise TypeError(f"submit() has no option {unknown[0]!r}{hint}")


def _value(value: Any) -> Value | None:  # noqa: ANN401 - of any option
    """An option's value as a job file has it."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, datetime):
        return value.astimezone().isoformat()
    if isinstance(value, Job | JobArray):
        return str(value.id)
    if isinstance(value, list | tuple):
        return [str(item.id) if isinstance(item, Job | JobArray) else item for item in value]
    converted: Value | None = value
    return converted


def submit_spec(
    spec: JobSpec,
    project: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    data: Sequence[str] = (),
    controller: str | Client | None = None,
) -> list[Job]:
    """Submit a job spec; an array has a job for each index. Raises as `submit`."""
    from racksack.submission import submission

    client = connect(controller)
    prepared = submission.prepare(spec, project, include=include, exclude=exclude, data=data)
    plan = submission.planned(client, prepared)
    return [Job(job_id, client) for job_id in submission.submit(client, prepared, plan).job_ids]


def connect(controller: str | Client | None = None) -> Client:
    """A way to a controller: as named, or as configured, or the embedded one."""
    return controller if isinstance(controller, Client) else Client(controller)


def job(job_id: int | str, controller: str | Client | None = None) -> Job:
    """A job by id, unique name or `last`. Raises NotFoundError."""
    client = connect(controller)
    (found,) = client.resolve([str(job_id)])
    return Job(client.job(found).id, client)


def jobs(
    *,
    state: str | None = None,
    owner: str | None = None,
    everything: bool = False,
    controller: str | Client | None = None,
) -> list[JobView]:
    """Jobs, newest first; `owner="me"` for one's own; finished ones only with `everything`."""
    return connect(controller).jobs(state=state, owner=owner, all=1 if everything else None)


def nodes(controller: str | Client | None = None) -> list[NodeView]:
    """All nodes."""
    return connect(controller).nodes()
