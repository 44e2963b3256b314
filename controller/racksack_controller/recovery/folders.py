"""Checks of what stands in the spool against what the store says of it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from racksack_controller import accepted, returns
from racksack_controller.core.records import Attempt, Job
from racksack_controller.core.state import Changes
from racksack_controller.intake.ids import highest_id
from racksack_controller.pruning import last_id, raise_last_id
from racksack_controller.recovery import rebuild
from racksack_controller.recovery.faults import Fault, Scene
from racksack_controller.recovery.rebuild import Result
from racksack_controller.store import attempts_of, read_identity, save_changes, write_identity
from racksack_jobspecs.bounds import UNDECODABLE
from racksack_jobspecs.snapshot import digest_of, manifest_of
from racksack_jobspecs.states import ACTIVE, FINAL

_decode_job = msgspec.json.Decoder(Job).decode


def _jobs(connection: sqlite3.Connection, condition: str) -> Iterator[Job]:
    """Jobs by a condition of ours, those with a damaged record left out: they are a finding of their own."""
    for (record,) in connection.execute(f"SELECT record FROM jobs WHERE {condition} ORDER BY id").fetchall():  # noqa: S608
        try:
            yield _decode_job(record)
        except UNDECODABLE:
            continue


def given_ids(scene: Scene) -> Iterator[Fault]:
    """Ids that left something in the spool and that the store could give out again."""
    highest, last = highest_id(scene.spool), last_id(scene.connection)
    if highest > last:
        sentence = f"the store's last id is {last}, but the spool has id {highest}: the store is older"
        repair = partial(raise_last_id, scene.connection, highest)
        yield scene.fault("ids", sentence, f"ids continue after {highest}", repair)


def spool_identity(scene: Scene) -> Iterator[Fault]:
    """The spool's id beside the store, from which a new store takes it."""
    row = scene.connection.execute("SELECT value FROM meta WHERE key = 'spool_id'").fetchone()
    if row is not None and read_identity(scene.spool.database) != row[0]:
        sentence = "spool.id is not the id in the store; a store made anew would not know its attempts on the nodes"
        repair = partial(write_identity, scene.spool.database, str(row[0]))
        yield scene.fault("ids", sentence, "it is rewritten", repair)


def ended_meanwhile(scene: Scene) -> Iterator[Fault]:
    """Jobs that the store calls unfinished and whose results are in place: it is older than they are."""
    for job in _jobs(scene.connection, "ended_at_s IS NULL"):
        result = rebuild.result_in(scene.spool.returned(job.id))
        if result is None or not returns.is_of(returns.read_result(scene.spool.returned(job.id)), job):
            continue
        if _is_newer(scene.connection, job, result):
            sentence = f"job {job.id} of {job.owner} is {job.state} in the store, and its results say {result.state}"
            repair = partial(_end, scene.connection, job, result)
            yield scene.fault("job", sentence, "it has ended as its results say and will not run again", repair)


def _is_newer(connection: sqlite3.Connection, job: Job, result: Result) -> bool:
    """Whether a result is of an attempt that the store has not seen the end of. A job that is tried again has results
    of an earlier one.
    """
    if result.attempt > job.attempt:
        return True
    if result.attempt < job.attempt or job.state not in ACTIVE:
        return False
    current = [one for one in attempts_of(connection, job.id) if one.number == job.attempt]
    return bool(current) and all(one.epoch == result.epoch for one in current)


def _end(connection: sqlite3.Connection, job: Job, result: Result) -> None:
    over: list[Attempt] = []
    for one in attempts_of(connection, job.id):
        if one.state not in FINAL:
            ended = one.ended_at_s or result.ended_at_s or time.time()
            over.append(msgspec.structs.replace(one, state=result.state, ended_at_s=ended, stop=None, removed=True))
    ended_job = rebuild.ended_job(result, job)
    line = (job.id, None, time.time(), f"{result.state}: found by a repair, from its results")
    save_changes(connection, Changes(jobs=(ended_job,), attempts=tuple(over), nodes=(), events=(line,)))


def result_folders(scene: Scene) -> Iterator[Fault]:
    """Return folders of other jobs, that contradict the store, or that are missing although nobody fetched them."""
    for job in _jobs(scene.connection, "ended_at_s IS NOT NULL"):
        folder = scene.spool.returned(job.id)
        sentence, remedy = "", ""
        if not folder.exists():
            if not job.fetched:
                sentence = f"job {job.id} of {job.owner} ended {job.state}, and has no results"
                remedy = "a return folder that says how it ended is created; its outputs are lost"
        else:
            result = returns.read_result(folder)
            if not returns.is_of(result, job):
                sentence = f"returns/{job.id} does not belong to job {job.id} of {job.owner} but to another store's"
                remedy = "it is moved aside, never merged"
            elif result.get("attempt") == job.attempt and result.get("state") != str(job.state):
                sentence = f"returns/{job.id} says {result.get('state')}, and the store {job.state}"
                remedy = "its result.json says what the store says"
        if sentence:
            yield scene.fault("results", sentence, remedy, partial(returns.ensure_returned, scene.spool, [job]))


def content_of_unfinished(scene: Scene) -> Iterator[Fault]:
    """Projects and data that unfinished jobs need: there, and what their digests say."""
    users: dict[str, list[Job]] = {}
    for job in _jobs(scene.connection, "ended_at_s IS NULL"):
        for digest in (job.snapshot, *(one.digest for one in job.data)):
            if digest:
                users.setdefault(digest, []).append(job)
    for digest, jobs in sorted(users.items()):
        path = scene.spool.snapshots / digest
        named = f"job {jobs[0].id} of {jobs[0].owner}" + (f" and {len(jobs) - 1} more" if len(jobs) > 1 else "")
        if not path.is_dir():
            sentence = (
                f"snapshots/{digest[:12]}... is gone, which {named} needs; they end with that reason: submit again"
            )
            yield Fault(what="content", sentence=sentence)
            continue
        try:
            is_whole = digest_of(manifest_of(path)) == digest
        except (OSError, ValueError):
            is_whole = False
        if not is_whole:
            sentence = (
                f"snapshots/{digest[:12]}... is damaged, which {named} needs; they end with that reason: submit again"
            )
            yield scene.fault("content", sentence, "it is moved aside: nothing runs with it", partial(_put_away, path))


def _put_away(path: Path) -> None:
    path.rename(path.with_name(f".gone-{path.name}"))


def notes_of_unfinished(scene: Scene) -> Iterator[Fault]:
    """Unfinished jobs of which only the store knows."""
    noted = {job.id for note in accepted.notes(scene.spool) if not note.is_sweep for job in rebuild.readable(note)}
    for job in _jobs(scene.connection, "ended_at_s IS NULL"):
        if job.id not in noted and job.spec.runner_of is None:
            repair = partial(accepted.note_jobs, scene.spool, [job])
            yield scene.fault("job", f"job {job.id} is only in the store", "it is recorded in projects/, too", repair)


def links(scene: Scene) -> Iterator[Fault]:
    """The links in projects/ from ids to content."""
    for job in _jobs(scene.connection, "ended_at_s IS NULL"):
        link = scene.spool.projects / str(job.id)
        is_first = job.array_id in (None, job.id) and job.spec.runner_of is None
        if is_first and not os.path.lexists(link) and (scene.spool.snapshots / job.snapshot).is_dir():
            target = os.path.relpath(scene.spool.snapshots / job.snapshot, scene.spool.projects)
            yield scene.fault(
                "job", f"projects/{job.id} is missing", "the link is recreated", partial(link.symlink_to, target)
            )
