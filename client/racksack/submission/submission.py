"""From a project folder and a description of the job to an accepted job.

Nothing is sent before the job is known to be well-formed and to fit some node. The content travels only when the
controller does not have it. The job file comes last, because from its rename on the job exists.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from racksack import errors
from racksack.client import Client
from racksack.submission import data as data_sets
from racksack.submission import hash_cache, sharing, upload
from racksack.submission.data import LocalData
from racksack.submission.forms import check_runnable
from racksack.submission.project import Selection, check_entrypoint, select
from racksack.transport.rsync import Moved
from racksack.views import Plan
from racksack_jobspecs.environments.plan import Plan as EnvironmentPlan
from racksack_jobspecs.environments.plan import PlanError, plan_of
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.write import job_file

NOTHING_MOVED = Moved(0, 0, 0)


@dataclass(frozen=True)
class Prepared:
    """A job that is ready to be handed in."""

    spec: JobSpec
    selection: Selection
    known: hash_cache.Remembered
    digest: str
    environment: EnvironmentPlan
    data: tuple[LocalData, ...] = ()


@dataclass(frozen=True)
class Submitted:
    """An accepted submission: its jobs and what it took."""

    job_ids: tuple[int, ...]
    spec: JobSpec
    plan: Plan
    moved: Moved


@dataclass(frozen=True)
class Progress:
    """Who wants to hear how far it is: bytes read so far; bytes sent so far and percent."""

    on_read: Callable[[int], None] = lambda size: None
    on_sent: Callable[[int, int], None] | None = None


def prepare(
    spec: JobSpec,
    project: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    data: Sequence[str] = (),
    on_selected: Callable[[Selection], None] = lambda selection: None,
    progress: Progress | None = None,
) -> Prepared:
    """Look through the project and give the content its digest; `data` are words as of `--data`.

    Raises ProjectError, UsageError.
    """
    known_data, local_data = data_sets.split(data)
    selection = select(project, include, exclude)
    entrypoint = check_entrypoint(selection, spec.entrypoint)
    if spec.sweep is None:
        check_runnable(selection, entrypoint)
    environment = environment_of(selection, entrypoint, spec)
    selection, shared = sharing.marked(selection, spec.shared)
    on_selected(selection)
    known = hash_cache.recall(selection.root)
    digest = hash_cache.digest(selection, known, progress.on_read if progress else lambda size: None)
    hash_cache.remember(selection.root, known)
    local = data_sets.read(local_data, progress.on_read if progress else lambda size: None)
    uses = (*spec.data, *known_data, *(one.use for one in local))
    key = spec.submission or f"s-{secrets.token_hex(12)}"
    whole = msgspec.structs.replace(
        spec, project=f"snapshot:{digest}", entrypoint=entrypoint, submission=key, data=uses, shared=shared
    )
    return Prepared(whole, selection, known, digest, environment, tuple(local))


def environment_of(selection: Selection, entrypoint: str, spec: JobSpec) -> EnvironmentPlan:
    """What the job's venv will be made of. Raises UsageError."""
    try:
        return plan_of(selection.root, entrypoint, spec.environment)
    except PlanError as error:
        raise errors.UsageError(str(error)) from None


def planned(client: Client, prepared: Prepared) -> Plan:
    """What the controller makes of it; raises as `check_plan`."""
    return check_plan(client, prepared.spec, prepared.selection.size_bytes)


def check_plan(client: Client, spec: JobSpec, size_bytes: int = 0) -> Plan:
    """What the controller makes of a job. Raises UsageError for mistakes and NeverRunnableError when no node could run
    it.
    """
    plan = client.plan(_text(spec), size_bytes)
    if plan.problems:
        raise errors.UsageError("\n".join(_problem(problem) for problem in plan.problems))
    if plan.never:
        raise errors.NeverRunnableError(f"this job could never run: {plan.never}; nothing was sent")
    return plan


def submit(client: Client, prepared: Prepared, plan: Plan, progress: Progress | None = None) -> Submitted:
    """Hand the job in. Raises TransferError when content did not arrive, UsageError when the controller refuses the
    job.
    """
    with ExitStack() as uploads:
        spec, moved = prepared.spec, NOTHING_MOVED
        if prepared.data:
            brought = data_sets.bring(client, prepared.data, uploads, progress.on_sent if progress else None)
            spec = msgspec.structs.replace(spec, data=(*spec.data[: -len(brought)], *brought))
        if not client.has_snapshot(prepared.digest):
            uploaded = uploads.enter_context(upload.upload_of(client.target, prepared.digest))
            moved = _send(client, prepared, uploaded, progress)
            spec = msgspec.structs.replace(spec, project=uploaded.name, digest=prepared.digest)
        job_ids = hand_in(client, spec)
    prepared.known.sent[str(client.target)] = prepared.digest
    hash_cache.remember(prepared.selection.root, prepared.known)
    return Submitted(tuple(job_ids), prepared.spec, plan, moved)


def _send(client: Client, prepared: Prepared, uploaded: upload.Upload, progress: Progress | None) -> Moved:
    previous = prepared.known.sent.get(str(client.target))
    return upload.send(client.target, prepared.selection, uploaded, previous, progress.on_sent if progress else None)


def hand_in(client: Client, spec: JobSpec) -> list[int]:
    """Rename the job file into `jobs/` and wait until it is accepted.

    The key makes a second file of the same submission harmless, so a broken connection is answered with one more try.
    """
    text, file_name = _text(spec), f"{spec.submission}.yaml"
    try:
        upload.hand_in(client.target, file_name, text)
    except errors.UnreachableError:
        try:
            upload.hand_in(client.target, file_name, text)
        except errors.UnreachableError as error:
            raise errors.TransferError(
                f"{error}; the job may or may not have been accepted: repeat the command with "
                f"--submission-key {spec.submission}, which never creates a second job"
            ) from error
    except OSError as error:
        raise errors.RacksackError(f"the job file cannot be written to {client.target}: {error.strerror}") from error
    return client.accepted(spec.submission)


def _text(spec: JobSpec) -> str:
    try:
        return job_file(spec)
    except ValueError as error:
        raise errors.UsageError(str(error)) from None


def _problem(problem: object) -> str:
    if isinstance(problem, dict):
        return ": ".join(str(problem[key]) for key in ("path", "sentence") if problem.get(key))
    return str(problem)
