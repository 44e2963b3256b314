"""Our own history as a workload: the jobs that ran, from a spool's store, which is only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from racksack_controller.core.records import Attempt, Job
from racksack_controller.simulate.engine import Outcome
from racksack_controller.simulate.workload import Task, WorkloadError
from racksack_controller.store import all_nodes, ended_attempts
from racksack_jobspecs.resources import Inventory

RUNS_MAX = 1_000_000


def past(database: Path, since_s: float) -> list[Outcome]:
    """What ran of the jobs that ended since a time (Unix seconds), by submission, as it really was.

    Raises WorkloadError when there is no such store or nothing ran.
    """
    with closing(_open(database)) as connection:
        runs = ended_attempts(connection, since_s, None, RUNS_MAX)
    last: dict[int, tuple[Job, list[Attempt]]] = {}  # with the ranks of the latest attempt
    for job, attempt in runs:
        if attempt.ending is not None and attempt.number == job.attempt:
            last.setdefault(job.id, (job, []))[1].append(attempt)
    ended = {job.id: job.ended_at_s for job, _ in last.values() if job.ended_at_s is not None}
    found = [outcome for job, ranks in last.values() for outcome in _outcome(job, ranks, ended)]
    if not found:
        raise WorkloadError(f"no job has run and ended since then in {database}")
    return sorted(found, key=lambda one: (one.task.submit_s, one.task.number))


def inventories(database: Path) -> dict[str, Inventory]:
    """What the controller has found on its nodes; nothing where there is no store."""
    if not database.exists():
        return {}
    with closing(_open(database)) as connection:
        return {node.name: node.inventory for node in all_nodes(connection) if node.inventory is not None}


def _open(database: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
        connection.execute("SELECT 1 FROM jobs LIMIT 1")
    except sqlite3.Error as error:
        raise WorkloadError(f"the history in {database} cannot be read: {error}") from error
    return connection


def _outcome(job: Job, ranks: list[Attempt], ended_s: Mapping[int, float]) -> Iterator[Outcome]:
    ending = ranks[0].ending
    if ending is None or ending.started_at_s is None or ending.ended_at_s is None:
        return
    run_s = max(1.0, ending.ended_at_s - ending.started_at_s)
    task = Task(
        number=job.id,
        submit_s=_ready_s(job, ended_s),
        run_s=run_s,
        limit_s=job.spec.time_limit_s or run_s,
        processors=job.spec.resources.cpus * job.spec.gang,
        user=job.owner,
        program=job.spec.name,
        priority=job.spec.priority,
        job=job,
    )
    started_s = max(task.submit_s, ending.started_at_s)
    yield Outcome(task, started_s, started_s + run_s, tuple(rank.node for rank in ranks), job.attempt)


def _ready_s(job: Job, ended_s: Mapping[int, float]) -> float:
    """When it could have started: submitted, its begin time come, and what it waited for over."""
    others = [ended_s[wait.job] for wait in job.after if wait.job in ended_s]
    return max(job.submitted_at_s, job.spec.begin_at_s or 0.0, *others)
