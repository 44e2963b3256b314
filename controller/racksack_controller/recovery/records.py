"""Checks of the store itself: every record can be read, and its columns say what it says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from racksack_controller import accepted
from racksack_controller.core.power_records import PowerRecord
from racksack_controller.core.queue.fair_share import OwnerUse
from racksack_controller.core.queue.history import RunHistory
from racksack_controller.core.records import Attempt, Job, Node
from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.recovery import rebuild
from racksack_controller.recovery.faults import Fault, Scene
from racksack_jobspecs.bounds import UNDECODABLE


class _Table(NamedTuple):
    name: str
    keys: tuple[str, ...]
    column: str
    decode: Callable[[bytes], object]
    remedy: str


def _decoder(kind: Any) -> Callable[[bytes], object]:  # noqa: ANN401 - a record
    return msgspec.json.Decoder(kind).decode


_TAKEN_OUT = "it is removed, and kept in damaged.jsonl"
_TABLES = (
    _Table("jobs", ("id",), "record", _decoder(Job), "it is rebuilt from the spool, or removed"),
    _Table("attempts", ("job", "number", "rank"), "record", _decoder(Attempt), _TAKEN_OUT),
    _Table("nodes", ("name",), "record", _decoder(Node), f"{_TAKEN_OUT}; the node is known again at the next start"),
    _Table("usage", ("owner",), "record", _decoder(OwnerUse), f"{_TAKEN_OUT}; fair share forgets what was used"),
    _Table("history", ("key",), "record", _decoder(RunHistory), f"{_TAKEN_OUT}; predictions begin anew"),
    _Table("power", ("node",), "record", _decoder(PowerRecord), f"{_TAKEN_OUT}; the node's power is asked for anew"),
    _Table("sweeps", ("id",), "record", _decoder(Sweep), _TAKEN_OUT),
    _Table("sweeps", ("id",), "progress", _decoder(Progress), _TAKEN_OUT),
)


def damaged_records(scene: Scene) -> Iterator[Fault]:
    """Records that cannot be read: the controller leaves them out of its start."""
    for table in _TABLES:
        columns = ", ".join((*table.keys, table.column))
        for *key, record in scene.connection.execute(f"SELECT {columns} FROM {table.name}").fetchall():  # noqa: S608
            try:
                table.decode(record if isinstance(record, bytes) else str(record).encode())
            except (*UNDECODABLE, TypeError) as error:
                named = " ".join(map(str, key))
                sentence = f"the record of {table.name} {named} is damaged ({str(error)[:150]})"
                yield scene.fault("record", sentence, table.remedy, partial(_take_out, scene, table, tuple(key)))


def _take_out(scene: Scene, table: _Table, key: tuple[object, ...]) -> None:
    condition = " AND ".join(f"{name} = ?" for name in table.keys)
    found = scene.connection.execute(f"SELECT * FROM {table.name} WHERE {condition}", key)  # noqa: S608 - ours
    names, row = [column[0] for column in found.description], found.fetchone()
    scene.damaged(table.name, dict(zip(names, map(_shown, row), strict=True)))
    scene.connection.execute(f"DELETE FROM {table.name} WHERE {condition}", key)  # noqa: S608 - ours


def _shown(value: object) -> object:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def contradicting_columns(scene: Scene) -> Iterator[Fault]:
    """Jobs whose columns, by which they are searched, say something else than their records."""
    sql = """
        WITH read AS (SELECT id, state, ended_at_s, CAST(record AS TEXT) AS text FROM jobs)
        SELECT id, state, ifnull(text ->> '$.state', 'queued'), text ->> '$.ended_at_s' FROM read
        WHERE json_valid(text) AND (state != ifnull(text ->> '$.state', 'queued')
            OR (ended_at_s IS NULL) != (text ->> '$.ended_at_s' IS NULL))
    """
    for number, state, true_state, true_end in scene.connection.execute(sql).fetchall():
        sentence = f"job {number} is {true_state}, and the store lists it as {state}"
        repair = partial(_set_columns, scene.connection, number, true_state, true_end)
        yield scene.fault("record", sentence, "the list is corrected", repair)


def _set_columns(connection: sqlite3.Connection, number: int, state: str, ended_at_s: float | None) -> None:
    connection.execute("UPDATE jobs SET state = ?, ended_at_s = ? WHERE id = ?", (state, ended_at_s, number))


def unknown_jobs(scene: Scene) -> Iterator[Fault]:
    """Jobs and sweeps that were accepted or have results, of which the store has nothing."""
    yield from _ended(scene)
    for job in rebuild.accepted_jobs(scene.spool):
        if not rebuild.is_free(scene.connection, job.id) or rebuild.has_submission(scene.connection, job):
            continue
        called = f"job {job.id} ({job.spec.name}) of {job.owner}"
        if not (scene.spool.snapshots / job.snapshot).is_dir():
            yield Fault(
                what="job", sentence=f"{called} was accepted, but its project is gone; it must be submitted again"
            )
            continue
        repair = partial(rebuild.insert_job, scene.connection, rebuild.queued(job), "found again by a repair")
        sentence = f"{called} was accepted and has not ended, and the store does not know it"
        yield scene.fault("job", sentence, "it waits again, with the same id", repair)
    yield from _unknown_sweeps(scene)


def _ended(scene: Scene) -> Iterator[Fault]:
    """Return folders of jobs that the store does not know."""
    known = {job.id: job for job in rebuild.accepted_jobs(scene.spool)}
    for path in sorted(scene.spool.returns.iterdir()):
        if not path.name.isdecimal() or len(path.name) > 15 or not rebuild.is_free(scene.connection, int(path.name)):
            continue
        result = rebuild.result_in(path)
        if result is None or result.job != int(path.name):
            if not (path / "summary.json").is_file():
                yield Fault(
                    what="results",
                    sentence=f"returns/{path.name} is of no job that the store knows, and does not say of which; look "
                    "at it, and move it away",
                )
            continue
        before = known.get(result.job)
        job = rebuild.ended_job(result, before if before is not None and before.key == result.key else None)
        if rebuild.has_submission(scene.connection, job):
            continue
        sentence = f"job {job.id} ({job.spec.name}) of {job.owner} ended {job.state}, and the store does not know it"
        repair = partial(rebuild.insert_job, scene.connection, job, "found again by a repair, from its results")
        yield scene.fault("job", sentence, "its record is made from its result.json", repair)


def _unknown_sweeps(scene: Scene) -> Iterator[Fault]:
    for note in accepted.notes(scene.spool):
        if not note.is_sweep or not rebuild.is_free(scene.connection, note.first):
            continue
        try:
            found = accepted.sweep_of(note)
        except (OSError, *UNDECODABLE):
            yield Fault(what="sweep", sentence=f"projects/{note.path.name} is damaged; sweep {note.first} is lost")
            continue
        if scene.spool.returned(note.first).exists():
            continue  # it has ended; its folder holds the results
        called = f"sweep {note.first} ({found.sweep.spec.name}) of {found.sweep.owner}"
        if not (scene.spool.snapshots / found.sweep.snapshot).is_dir():
            yield Fault(what="sweep", sentence=f"{called} was accepted, but its project is gone; send it again")
            continue
        repair = partial(rebuild.insert_sweep, scene.connection, found)
        sentence = f"{called} was accepted and has not ended, and the store does not know it"
        yield scene.fault("sweep", sentence, "it starts again, with the same id", repair)
