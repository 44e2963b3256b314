"""The Python API: `racksack.submit(...)` and what it returns. The commands do nothing that cannot be done from here.

job = racksack.submit("./project", "main.py", cpus=16, ram="32G", args=["--epochs", "10"])
if job.wait() == "done":
folder = job.fetch()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from racksack.client import Client
from racksack.errors import RefusedError
from racksack.submission.draft import Value, spec_of_options
from racksack.views import JobDetails, JobView, NodeView
from racksack_jobspecs.spec import JobSpec


@dataclass(frozen=True)
class Job:
    """A job on a controller. Holds an id and the way to ask about it, nothing that could be out of date."""

    id: int
    client: Client

    def status(self) -> JobDetails:
        """What the controller knows about the job now."""
        return self.client.job(self.id)

    def why(self) -> str:
        """Why the job is where it is, as a sentence."""
        return self.client.why(self.id).sentence

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait until the job has ended and return its state (`done`, `failed`, ...). Raises WaitTimeoutError."""
        from racksack.following import wait_for

        return wait_for(self.client, [self.id], timeout_s=timeout_s)[0].state

    def logs(self, stream: str = "stdout", *, follow: bool = False) -> Iterator[str]:
        """The lines of a log (`stdout`, `stderr`, `env`), without their ends; `follow` goes on until the job has
        ended.
        """
        from racksack.following import follow_log

        pieces = follow_log(self.client, self.id, stream) if follow else self.client.log(self.id, stream)
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def fetch(self, into: str | Path = "results", *, overwrite: bool = False) -> Path:
        """Bring the results to `<into>/<id>-<name>/` and return that folder.

        Raises RefusedError when local files differ and `overwrite` is not given, TransferError when something is
        missing.
        """
        from racksack.errors import TransferError
        from racksack.fetching import Wish, fetch

        wish = Wish(Path(into), existing="overwrite" if overwrite else "keep")
        (result,) = fetch(self.client, [self.status()], wish)
        if result.error is not None:
            raise TransferError(f"job {self.id}: {result.error}")
        if result.kept:
            raise RefusedError(
                f"job {self.id}: {len(result.kept)} files in {result.folder} differ; allow overwrite=True"
            )
        return result.folder

    def cancel(self, reason: str = "") -> None:
        """End the job. A job that has ended stays as it is."""
        self.client.act(self.id, "cancel", reason=reason)

    def hold(self) -> None:
        """Keep a waiting job from starting."""
        self.client.act(self.id, "hold")

    def release(self) -> None:
        """Let a held job start."""
        self.client.act(self.id, "release")


def submit(
    project: str | Path,
    entrypoint: str,
    *,
    args: Sequence[str] = (),
    name: str | None = None,
    cpus: float | None = None,
    ram: str | None = None,
    gpus: int | float | str | Mapping[str, str | float] | None = None,
    disk: str | None = None,
    time_limit: str | None = None,
    env: Mapping[str, str] | None = None,
    environment: str | None = None,
    python: str | None = None,
    requirements: str | None = None,
    outputs: Sequence[str] | None = None,
    max_output: str | None = None,
    retries: int | None = None,
    retry_on: Sequence[str] | None = None,
    priority: int | None = None,
    after: Sequence[int | str | Job] | None = None,
    labels: Sequence[str] | None = None,
    nodes: Sequence[str] | None = None,
    exclude_nodes: Sequence[str] | None = None,
    stage_in_ram: Sequence[str] | None = None,
    data: Sequence[str] = (),
    begin: str | float | None = None,
    submission: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    controller: str | Client | None = None,
    **keys: Value | None,
) -> Job:
    """Submit a job; sizes and durations as on the command line (`"32G"`, `"2h"`); `keys` are others of a job file.

    Raises UsageError for arguments that make no job, ProjectError for a project that cannot be sent,
    NeverRunnableError, UnreachableError and TransferError.
    """
    given: dict[str, Value | None] = {
        "name": name,
        "project": "local",
        "entrypoint": entrypoint,
        "args": list(args) or None,
        "cpus": cpus,
        "ram": ram,
        "gpus": gpus,
        "disk": disk,
        "time_limit": time_limit,
        "env": env,
        "environment": environment,
        "python": python,
        "requirements": requirements,
        "outputs": outputs,
        "max_output": max_output,
        "retries": retries,
        "retry_on": retry_on,
        "priority": priority,
        "after": None if after is None else [str(job.id if isinstance(job, Job) else job) for job in after],
        "labels": labels,
        "nodes": nodes,
        "exclude": exclude_nodes,
        "stage_in_ram": stage_in_ram,
        "begin": begin,
        "submission": submission,
        **keys,
    }
    spec = spec_of_options(given)
    jobs = submit_spec(spec, Path(project), include=include, exclude=exclude, data=data, controller=controller)
    return jobs[0]


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
