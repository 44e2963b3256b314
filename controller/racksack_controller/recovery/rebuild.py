"""Jobs from what stands in the spool: what was accepted (`projects/`), and how it ended (`returns/*/result.json`).

The store is the truth while it is there. This is for what it does not know: after its loss, after a restore of an older
copy, for a record that is damaged. An id that the store has given to something else is never used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from racksack_controller import accepted
from racksack_controller.core.records import Job
from racksack_controller.core.state import Changes
from racksack_controller.core.sweeps.records import Progress
from racksack_controller.returns import RESULT
from racksack_controller.store import save_changes
from racksack_controller.sweeps.results import ledger
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_jobspecs.bounds import TIME_S_MAX, UNDECODABLE
from racksack_jobspecs.dependency import SINGLETON
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import FINAL, JobState
from racksack_jobspecs.sweep.states import SweepState

Moment = Annotated[float, Meta(ge=0, le=TIME_S_MAX)]


class Result(msgspec.Struct, frozen=True):
    """What a result.json says of its job, as far as it is needed here."""

    job: int
    owner: str
    name: str
    state: JobState
    attempt: int
    submitted_at_s: Moment
    key: str = ""
    epoch: str = ""
    reason: str = ""
    ended_at_s: Moment | None = None
    snapshot: str = ""
    entrypoint: str = ""
    args: tuple[str, ...] = ()
    cpus: float = 1.0
    ram_bytes: int = 1024**3

    def __post_init__(self) -> None:
        """Raises ValueError for a state in which no job ends."""
        if self.state not in FINAL:
            raise ValueError(f"{self.state} is no end")


def result_in(folder: Path) -> Result | None:
    """What the controller wrote into a return folder; None where it cannot be read."""
    try:
        return msgspec.json.decode((folder / RESULT).read_bytes(), type=Result)
    except (OSError, *UNDECODABLE):
        return None


def ended_job(result: Result, known: Job | None) -> Job:
    """A finished job: `known` as it was accepted, else as much as result.json says."""
    job = known or Job(
        id=result.job,
        owner=result.owner,
        spec=JobSpec(
            name=result.name,
            project=f"snapshot:{result.snapshot}",
            entrypoint=result.entrypoint,
            args=result.args,
            resources=ResourceRequest(cpus=result.cpus, ram_bytes=result.ram_bytes),
            submission=f"rebuilt-{result.job}-{result.key}",
        ),
        snapshot=result.snapshot,
        submitted_at_s=result.submitted_at_s,
        key=result.key,
    )
    return msgspec.structs.replace(
        job,
        state=result.state,
        reason=result.reason,
        attempt=result.attempt,
        ended_at_s=result.ended_at_s if result.ended_at_s is not None else result.submitted_at_s,
        waits_for=(),
    )


def accepted_jobs(spool: Spool) -> Iterator[Job]:
    """Everything that the notes tell of, unfinished as it was accepted. Damaged ones are left out.

    A submission that was noted twice (the controller ended before the first was saved) counts as noted last.
    """
    latest: dict[tuple[str, int | None], Job] = {}
    for note in sorted(accepted.notes(spool), key=lambda one: one.first):
        if not note.is_sweep:
            for job in readable(note):
                latest[job.spec.submission, job.array_index] = job
    yield from latest.values()


def queued(job: Job) -> Job:
    """A job that was accepted and has not ended, as it waits again: for all that it depends on."""
    waits = tuple(wait for wait in job.after if wait.condition != SINGLETON)
    return msgspec.structs.replace(job, waits_for=waits)


def readable(note: accepted.Note) -> list[Job]:
    """The jobs of a note; none where it is damaged or gone."""
    try:
        return accepted.jobs_of(note)
    except (OSError, *UNDECODABLE):
        return []


def insert_job(connection: sqlite3.Connection, job: Job, said: str) -> None:
    """Save a job that the store does not know, with a line in its story. Raises sqlite3.Error."""
    line = (job.id, None, job.ended_at_s or job.submitted_at_s, said)
    save_changes(connection, Changes(jobs=(job,), attempts=(), nodes=(), events=(line,)))
    if job.snapshot:
        connection.execute("INSERT OR IGNORE INTO snapshot_owners VALUES (?, ?)", (job.snapshot, job.owner))
    if job.spec.array is not None:
        size = connection.execute("SELECT count(*) FROM jobs WHERE submission = ?", (job.spec.submission,)).fetchone()
        connection.execute("INSERT OR REPLACE INTO arrays VALUES (?, ?)", (job.spec.submission, size[0]))


def has_submission(connection: sqlite3.Connection, job: Job) -> bool:
    """Whether the store has a job of this submission (and index) already."""
    sql = "SELECT 1 FROM jobs WHERE submission = ? AND ifnull(array_index, -1) = ?"
    index = -1 if job.array_index is None else job.array_index
    return connection.execute(sql, (job.spec.submission, index)).fetchone() is not None


def is_free(connection: sqlite3.Connection, number: int) -> bool:
    """Whether the store has neither a job nor a sweep of this id."""
    sql = "SELECT 1 FROM jobs WHERE id = ?1 UNION SELECT 1 FROM sweeps WHERE id = ?1"
    return connection.execute(sql, (number,)).fetchone() is None


def insert_sweep(connection: sqlite3.Connection, found: accepted.AcceptedSweep) -> None:
    """Save a sweep that the store does not know, from its beginning. Raises sqlite3.Error."""
    sweep, points = found.sweep, sum(end - start for start, end in found.pairs)
    progress = Progress(
        state=SweepState.STOPPED if sweep.spec.hold else SweepState.RUNNING,
        points=points,
        pending=() if is_drawn(sweep.sweep) else found.pairs,
    )
    ledger.add_sweep(connection, sweep, progress)
    connection.execute("INSERT OR IGNORE INTO snapshot_owners VALUES (?, ?)", (sweep.snapshot, sweep.owner))
