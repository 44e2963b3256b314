"""A job once more, with some things changed: a new job of the same content."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import msgspec

from racksack.client import Client
from racksack.errors import RefusedError, UsageError
from racksack.submission.draft import Value, spec_of_text
from racksack.submission.submission import check_plan, hand_in
from racksack.views import JobDetails
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.write import job_file


def changed(
    job: JobDetails, given: Mapping[str, Value], env: Mapping[str, str], edit: Callable[[str], str | None] | None
) -> JobSpec:
    """The spec of a finished job with `given` (keys of a job file) and `env` in it, then as `edit` leaves its text.

    What it waited for is over. Raises RefusedError and UsageError.
    """
    if not job.is_final:
        raise RefusedError(f"job {job.id} is {job.state}; only a finished job can be run again")
    if job.array_index is not None:
        raise RefusedError(f"job {job.id} is one of an array; it can be run again as it was, or submitted again")
    old = msgspec.convert(job.spec, JobSpec)
    spec = msgspec.structs.replace(
        old,
        project=f"snapshot:{job.snapshot}",
        env={**old.env, **env},
        after=(),
        hold=False,
        begin_at_s=None,
        submission=f"s-{secrets.token_hex(12)}",
    )
    text = job_file(spec)
    if edit is not None:
        edited = edit(text)
        if edited is None:
            raise UsageError(f"the job file of job {job.id} was not saved; nothing was submitted")
        text = edited
    return spec_of_text(text, given)


def resubmit(client: Client, spec: JobSpec) -> int:
    """Hand it in; the new job's id. Raises UsageError, NeverRunnableError and what `hand_in` raises."""
    check_plan(client, spec)
    return hand_in(client, spec)[0]
