"""What was accepted and has not ended, beside the store: from these files it can be built again after its loss.

A job file leaves `jobs/` once its jobs are in the store. So that the store is never the only place that knows of an
accepted job, its records stand in `projects/` too, from just before they are saved until all of them have ended:
`<first id>-<last id>.jobs` of jobs that were saved together, `<id>.sweep` of a sweep. Results have a result.json.
"""

from __future__ import annotations

import bisect
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from racksack_controller.core.records import Job, Wait
from racksack_controller.core.sweeps.records import Sweep
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import ArraySpec

log = logging.getLogger("racksack.accepted")

_NAME = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15})\.jobs|\.sweep)")


class _Element(msgspec.Struct, frozen=True, array_like=True):
    """What differs among jobs that were saved together."""

    id: int
    key: str
    index: int | None
    after: tuple[Wait, ...]


class _Jobs(msgspec.Struct, frozen=True):
    first: Job
    elements: tuple[_Element, ...]


class AcceptedSweep(msgspec.Struct, frozen=True):
    """A sweep with the numbers of its points."""

    sweep: Sweep
    pairs: tuple[tuple[int, int], ...]


class Note(NamedTuple):
    """One file, and the ids of what it is about."""

    path: Path
    first: int
    last: int

    @property
    def is_sweep(self) -> bool:
        """Whether it is about a sweep."""
        return self.path.suffix == ".sweep"


def note_jobs(spool: Spool, jobs: Sequence[Job]) -> None:
    """Note jobs that are saved together: one, or a part of an array, in the order of their ids. Raises OSError."""
    elements = tuple(_Element(job.id, job.key, job.array_index, job.after) for job in jobs)
    _write(spool.projects / f"{jobs[0].id}-{jobs[-1].id}.jobs", _Jobs(jobs[0], elements))


def note_sweep(spool: Spool, sweep: Sweep, pairs: Iterable[tuple[int, int]]) -> None:
    """Note a sweep. Raises OSError."""
    _write(spool.projects / f"{sweep.id}.sweep", AcceptedSweep(sweep, tuple(pairs)))


def _write(path: Path, record: msgspec.Struct) -> None:
    beside = path.with_name(f".{secrets.token_hex(8)}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(record))
    beside.rename(path)


def notes(spool: Spool) -> Iterator[Note]:
    """All of them. Raises OSError."""
    for path in spool.projects.iterdir():
        found = _NAME.fullmatch(path.name)
        if found is not None:
            yield Note(path, int(found[1]), int(found[2] or found[1]))


def jobs_of(note: Note) -> list[Job]:
    """The jobs as they were accepted. Raises OSError, ValueError for a damaged file."""
    record = msgspec.json.decode(note.path.read_bytes(), type=_Jobs)
    return [_job(record.first, element) for element in record.elements]


def _job(first: Job, element: _Element) -> Job:
    spec = first.spec
    if element.index is not None and spec.array is not None:
        array = ArraySpec((element.index,), spec.array.max_running)
        spec = msgspec.structs.replace(spec, array=array)
    return msgspec.structs.replace(
        first, id=element.id, key=element.key, array_index=element.index, after=element.after, spec=spec
    )


def sweep_of(note: Note) -> AcceptedSweep:
    """The sweep as it was accepted. Raises OSError, ValueError for a damaged file."""
    return msgspec.json.decode(note.path.read_bytes(), type=AcceptedSweep)


def remove_ended(spool: Spool, unfinished: Iterable[int], highest: int) -> int:
    """Remove notes of which nothing is unfinished any more; how many. Those above `highest` were just accepted.

    What cannot be removed is met again. Raises OSError when the folder cannot be read.
    """
    ids, removed = sorted(unfinished), 0
    for note in list(notes(spool)):
        at = bisect.bisect_left(ids, note.first)
        if note.last <= highest and (at == len(ids) or ids[at] > note.last):
            try:
                note.path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("cannot remove %s: %s", note.path, error.strerror)
            else:
                removed += 1
    return removed
