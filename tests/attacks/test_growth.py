"""Nothing only grows: old records leave the store, ids are never given twice, and what memory keeps is bounded."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from racksack_controller.config.config import Keep
from racksack_controller.core.queue import history as history_module
from racksack_controller.core.queue import job_queue
from racksack_controller.core.queue.history import History
from racksack_controller.core.queue.job_queue import JobQueue
from racksack_controller.core.records import Attempt, Ending, Job
from racksack_controller.core.state import Allocation, Changes
from racksack_controller.core.sweeps.records import Failure
from racksack_controller.housekeeping import Housekeeping
from racksack_controller.intake.adding import accepted_jobs, save_array
from racksack_controller.intake.spool import prepare
from racksack_controller.store import Store, save_changes
from racksack_controller.sweeps.results import ledger
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import ArraySpec, JobSpec
from racksack_jobspecs.states import JobState
from racksack_jobspecs.sweep.states import SweepState
from tests.sweeps.builders import progress, segment, sweep

OLD, NOW = 1000.0, 2_000_000_000.0


def job(number: int, ended_at_s: float | None = OLD, *, index: int | None = None, **changes: Any) -> Job:
    array = None if index is None else ArraySpec((index,))
    spec = JobSpec(
        name=f"j{number}", project="p", entrypoint="m.py", array=array,
        submission="ann:array" if index is not None else f"ann:{number}",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "id": number, "owner": "ann", "spec": spec, "snapshot": "0" * 64, "submitted_at_s": 1.0, "attempt": 1,
        "state": JobState.DONE if ended_at_s is not None else JobState.QUEUED, "ended_at_s": ended_at_s,
        "fetched": True, "array_index": index, "array_id": None if index is None else 20,
    }  # fmt: skip
    return Job(**(fields | changes))


def attempt(number: int, *, removed: bool = True) -> Attempt:
    return Attempt(
        job=number, number=1, node="r1", allocation=Allocation(1.0, 1), state=JobState.DONE, placed_at_s=1.0,
        removed=removed,
    )  # fmt: skip


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    found = Spool(tmp_path / "spool")
    prepare(found)
    return found


def count(store: Store, table: str, where: str = "1") -> int:
    sql = f"SELECT count(*) FROM {table} WHERE {where}"
    return int(store.look(lambda connection: connection.execute(sql).fetchone())[0])


def changes(
    jobs: list[Job], attempts: list[Attempt], stories: list[tuple[int | None, str | None, float, str]]
) -> Changes:
    return Changes(tuple(jobs), tuple(attempts), (), tuple(stories), (), (), (), ())


async def prune(spool: Spool, store: Store) -> None:
    keeping = Housekeeping(spool, store, Keep(), None, lambda: False, lambda: None, list)
    await keeping._prune()


async def test_old_jobs_leave_the_store_and_their_ids_stay_used(spool: Spool) -> None:
    store = Store(spool.database)
    try:
        jobs = [
            *(job(number) for number in range(1, 1300)),
            job(1300, NOW * 2),  # ended of late
            job(1301, None),
            job(1302, fetched=False),  # never had results
            job(1303, fetched=False),  # its results wait for their owner
            job(1304),  # something of it is still on its node
            *(job(2000 + index, index=index) for index in range(10)),
            job(2010, None, index=10),
        ]
        stories = [(one.id, None, OLD, "submitted") for one in jobs]
        stories += [(None, "r1", OLD, "connected"), (None, "r1", NOW * 2, "lost")]
        attempts = [attempt(number) for number in range(1, 1300)] + [attempt(1304, removed=False)]
        await store.save(changes(jobs, attempts, stories))
        await store.write(lambda connection: save_array(connection, "ann:array", 11))
        (spool.returned(1303)).mkdir()
        (spool.returned(7)).mkdir()
        await prune(spool, store)
        left = store.look(lambda connection: connection.execute("SELECT id FROM jobs ORDER BY id").fetchall())
        assert [row[0] for row in left] == [1300, 1301, 1303, 1304, *range(2000, 2011)]
        assert count(store, "attempts") == 1
        assert count(store, "events", "job < 1300") == 0
        assert count(store, "events", "job IS NULL") == 1
        assert not spool.returned(7).exists()
        assert spool.returned(1303).exists()

        await store.save(changes([job(2010, OLD, index=10)], [], []))
        await prune(spool, store)
        assert count(store, "jobs", "id >= 2000") == 0, "an array goes once all of it is old"
        assert store.look(lambda connection: accepted_jobs(connection, "ann:array")) == []
        assert store.last_job_id() == 2010
    finally:
        store.close()
    again = Store(spool.database)
    assert again.last_job_id() == 2010, "an id is never given out again"
    again.close()


async def test_old_sweeps_go_with_all_that_they_computed(spool: Spool) -> None:
    store = Store(spool.database)

    def fill(connection: sqlite3.Connection) -> None:
        for number, ended in ((5, OLD), (6, NOW * 2)):
            made = sweep(number)
            ledger.add_sweep(connection, made, progress(made, state=SweepState.DONE, ended_at_s=ended))
            for low in range(0, 100, 2):
                part = segment(range(low, low + 2), [{"v": 1.0}, {"v": 2.0}])
                ledger.add_segments(connection, number, 0, 0, [part])
            ledger.put_failures(connection, number, 0, [Failure(point=1, tries=1, kind="error", sentence="no")])
            ledger.add_params(connection, number, 0, [{"x": 1}])
        runner = job(9)
        spec = msgspec.structs.replace(runner.spec, submission="sweep-5-1")
        save_changes(connection, changes([msgspec.structs.replace(runner, spec=spec, fetched=False)], [], []))

    try:
        await store.write(fill)
        spool.returned(9).mkdir()
        await prune(spool, store)
        for table in ("sweep_segments", "sweep_failures", "sweep_params"):
            assert count(store, table, "sweep = 5") == 0
            assert count(store, table, "sweep = 6") > 0
        assert count(store, "sweeps") == 1
        assert count(store, "jobs") == 0
        assert not spool.returned(9).exists()
        assert store.last_job_id() == 9
    finally:
        store.close()


def test_the_history_of_programs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "PROGRAMS_KEPT", 50)
    history = History()
    ending = Ending(outcome=JobState.DONE, started_at_s=1.0, ended_at_s=5.0)
    names = [f"{chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(300)]
    for at, name in enumerate(names):
        one = job(at + 1)
        history.add(msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, name=name)), ending)
        history.add(msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, name="again")), ending)
    assert len(history.records) == 50
    assert history.predict_s(("ann", "again", "m.py")) == 4.0
    assert history.predict_s(("ann", names[-1], "m.py")) == 4.0


def test_the_indexes_of_the_queue_forget_what_waits_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_queue, "COMPACT_ABOVE", 40)
    queue = JobQueue(History())
    kept = job(1, None)
    queue.put(kept)
    for number in range(2, 500):
        one = job(number, None)
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        spec = msgspec.structs.replace(one.spec, name=letters, labels=(letters,))
        queue.put(msgspec.structs.replace(one, spec=spec, owner=letters))
        queue.remove(number)
    assert len(queue._programs) < 60
    assert len(queue.groups) < 60
    assert len(queue.owners) < 60
    [index] = queue.open_classes().tolist()
    assert queue.owners["ann"] == queue.owner[index]
    assert queue.groups[queue.group[index]] == (queue.classes[index].admission, queue.classes[index].kind)
