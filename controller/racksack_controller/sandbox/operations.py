"""What a sandbox process computes. Each operation takes and gives bytes, or refuses with a sentence for the user."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from racksack_controller.sandbox import search_operations
from racksack_controller.sandbox.refused import RefusedError
from racksack_jobspecs.parse import JobFileError, parse_job
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import SweepSpec
from racksack_jobspecs.yamltext import Problem

_encode = msgspec.msgpack.Encoder().encode


class Read(msgspec.Struct, frozen=True):
    """What a job file says: its spec, or all that is wrong with it and its submission key if that is legible."""

    spec: JobSpec | None
    problems: tuple[Problem, ...] = ()
    submission: str = ""


def _read_job(text: bytes) -> bytes:
    """A job file's text -> Read."""
    try:
        spec = parse_job(text)
    except JobFileError as error:
        return _encode(Read(None, error.problems, error.submission))
    return _encode(Read(spec, submission=spec.submission))


def _number_points(data: bytes) -> bytes:
    """A SweepSpec -> the numbers of its points, as pairs (from, up to but without)."""
    from racksack_controller.sweeps.search.numbering import numbered

    spec = msgspec.msgpack.decode(data, type=SweepSpec)
    try:
        return _encode(numbered(spec).pairs())
    except ValueError as error:
        raise RefusedError(str(error)) from None


class Query(msgspec.Struct, frozen=True):
    """A question about a sweep's results."""

    store: str  # the path of the store
    sweep: int
    name: str  # in `queries.QUERIES`
    arguments: dict[str, Any]


def _query(data: bytes) -> bytes:
    """A Query -> what it gives, as MessagePack."""
    from racksack_controller.store import StoreError, open_snapshot
    from racksack_controller.sweeps.results import ledger, queries

    wanted = msgspec.msgpack.decode(data, type=Query)
    try:
        connection = open_snapshot(Path(wanted.store))
    except StoreError as error:
        raise RefusedError(str(error)) from None
    try:
        found = ledger.sweep_by_id(connection, wanted.sweep)
        if found is None:
            raise RefusedError(f"there is no sweep {wanted.sweep}")
        return queries.answer(connection, *found, wanted.name, wanted.arguments)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    finally:
        connection.close()


TABLE: dict[str, Callable[[bytes], bytes]] = {
    "read": _read_job,
    "number": _number_points,
    "query": _query,
    "begin_search": search_operations.begin,
    "draw_points": search_operations.draw,
}
_NEEDS = {
    "begin_search": "optuna",
    "number": "racksack_controller.sweeps.search.numbering",
    "query": "racksack_controller.sweeps.results.queries",
}


def prepare(operation: str) -> None:
    """Import what an operation needs, which is not to count against its limits."""
    if operation in _NEEDS:
        importlib.import_module(_NEEDS[operation])
