"""Ids of jobs and sweeps as people write them: `42`, `12-20`, `15[3]` of an array, a unique name, `last`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from racksack.arrays import ELEMENTS, indices_text, wanted_indices
from racksack.errors import NotFoundError, RefusedError, UsageError
from racksack.text import clean

if TYPE_CHECKING:
    from racksack.views import JobView, SweepView


class Lists(Protocol):
    """What lists jobs and sweeps: a Client."""

    def jobs(self, *, limit: int | None = None, before: int | None = None, **query: object) -> list[JobView]:
        """Jobs, newest first."""

    def sweeps(self, *, limit: int | None = None, **query: object) -> list[SweepView]:
        """Sweeps, newest first."""


RANGE_MAX = 10_000
_RANGE = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")
_NAMES_SHOWN_MAX = 5


def resolve(client: Lists, words: Sequence[str]) -> list[int]:
    """The ids, in order, each once. Raises NotFoundError for an unknown name and RefusedError for one of several
    jobs.
    """
    found: dict[int, None] = {}
    for word in words:
        found.update(dict.fromkeys(_ids_of(client, word.strip())))
    return list(found)


def _ids_of(client: Lists, word: str) -> Sequence[int]:
    if re.fullmatch(r"[0-9]{1,15}", word):
        return [int(word)]
    elements = ELEMENTS.fullmatch(word)
    if elements is not None:
        return _elements(client, int(elements[1]), word, elements[3] or elements[2] or "")
    match = _RANGE.fullmatch(word)
    if match is not None:
        return _range(word, int(match[1]), int(match[2]))
    if word == "last":
        return [_last(client)]
    return [_named(client, word)]


def _elements(client: Lists, array_id: int, word: str, indices: str) -> list[int]:
    """The jobs of `15[3]`, `15[0-3,7]`, `15[*]`, `15_3`; the array is named by the id of its first job."""
    try:
        wanted = wanted_indices(indices)
    except ValueError:
        raise UsageError(
            f"{clean(word)} does not name jobs of an array; write {array_id}[3], or {array_id}[0-3,7]"
        ) from None
    first = client.jobs(all=1, before=array_id + 1, limit=1)
    name = first[0].name if first and first[0].id == array_id else None
    of_array = [job for job in client.jobs(name=name, all=1) if job.array_id == array_id] if name is not None else []
    if not of_array:
        raise NotFoundError(f"job {array_id} is not the first of an array")
    there = {job.array_index: job.id for job in reversed(of_array) if job.array_index is not None}
    missing = sorted((wanted or set()) - there.keys())
    if missing:
        raise NotFoundError(f"array {array_id} has no job {missing[0]}; it has {array_id}[{indices_text(there)}]")
    return [number for index, number in there.items() if wanted is None or index in wanted]


def _range(word: str, first: int, last: int) -> range:
    if last < first or last - first >= RANGE_MAX:
        raise UsageError(f"{word} is not a usable range; write the smaller id first, and at most {RANGE_MAX} jobs")
    return range(first, last + 1)


def _last(client: Lists) -> int:
    jobs = client.jobs(owner="me", all=1, limit=1)
    if not jobs:
        raise NotFoundError("you have no jobs yet, so there is no last one")
    return jobs[0].id


def _named(client: Lists, name: str) -> int:
    """Jobs that wait or run win over finished ones of the same name."""
    jobs = [job for job in client.jobs(name=name, all=1, limit=100) if job.name == name]
    unfinished = [job for job in jobs if not job.is_final]
    candidates = unfinished or jobs
    if not candidates:
        raise NotFoundError(f"there is no job {clean(name)}; `racksack status` lists them")
    if len(candidates) > 1:
        ids = ", ".join(str(job.id) for job in candidates[:_NAMES_SHOWN_MAX])
        more = ", ..." if len(candidates) > _NAMES_SHOWN_MAX else ""
        raise RefusedError(f"{len(candidates)} jobs are called {clean(name)} ({ids}{more}); name one by its id")
    return candidates[0].id


def sweep_id(client: Lists, word: str) -> int:
    """The number of a sweep: as a number, a name, or `last`. Raises NotFoundError."""
    if word.isascii() and word.isdecimal() and len(word) < 16:
        return int(word)
    found = client.sweeps(owner="me", limit=1) if word == "last" else client.sweeps(name=word, limit=1)
    if not found:
        raise NotFoundError(f"there is no sweep {clean(word)}; `racksack sweep status` lists them")
    return found[0].id
