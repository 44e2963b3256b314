"""Every kind of damage to a spool: it is explained in a sentence, repaired, and the controller goes on."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from racksack_controller import accepted
from racksack_controller.core.records import Attempt
from racksack_controller.intake.spool import prepare
from racksack_controller.recovery.nodes import differences
from racksack_controller.store import Store
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import JobState
from tests.attacks.controllers import drop, submitted, until, upload
from tests.attacks.test_requests import ask
from tests.core.builders import report
from tests.recovery.conftest import (
    ARRAY,
    DONE,
    FAILED,
    HELD,
    JOB,
    PROGRAM,
    WAITING,
    Damage,
    contents_of,
    findings,
    jobs_in,
    started,
)


def change(spool: Spool, *statements: str) -> None:
    """Something that is not ours changes the store."""
    with closing(sqlite3.connect(spool.database)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def number_of(spool: Spool, name: str) -> int:
    return jobs_in(spool)[name][0].id


def store_gone(spool: Spool) -> None:
    for path in spool.root.glob("racksack.db*"):
        path.unlink()


def store_emptied(spool: Spool) -> None:
    store_gone(spool)
    spool.database.touch()


def store_of_text(spool: Spool) -> None:
    store_gone(spool)
    spool.database.write_text("this is no database\n" * 1000)


def pages_damaged(spool: Spool) -> None:
    change(spool, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(spool.database.read_bytes())
    for at in range(4096 * 2, len(data), 4096 * 3):
        data[at : at + 4096] = random.Random(at).randbytes(4096)
    spool.database.write_bytes(data[: len(data) // 4096 * 4096])


def record_of_an_unfinished_job(spool: Spool) -> None:
    change(spool, f"UPDATE jobs SET record = x'7b2262' WHERE id = {number_of(spool, HELD)}")


def record_of_a_finished_job(spool: Spool) -> None:
    change(spool, f"UPDATE jobs SET record = '[1]' WHERE id = {number_of(spool, DONE)}")


def all_records(spool: Spool) -> None:
    tables = ("jobs", "attempts", "nodes", "usage", "history", "sweeps")
    change(spool, *(f"UPDATE {table} SET record = '{{\"x\": 1}}'" for table in tables))


def jobs_deleted(spool: Spool) -> None:
    change(spool, "DELETE FROM jobs", "DELETE FROM attempts", "DELETE FROM sweeps", "DELETE FROM meta")


def columns_wrong(spool: Spool) -> None:
    change(spool, f"UPDATE jobs SET state = 'running', ended_at_s = NULL WHERE id = {number_of(spool, DONE)}")


def results_gone(spool: Spool) -> None:
    shutil.rmtree(spool.returned(number_of(spool, FAILED)))


def results_of_another_store(spool: Spool) -> None:
    folder = spool.returned(number_of(spool, DONE))
    text = (folder / "result.json").read_text()
    key = jobs_in(spool)[DONE][0].key
    (folder / "result.json").write_text(text.replace(key, "f" * 16))
    (folder / "out.txt").write_text("of somebody else")


def results_that_contradict(spool: Spool) -> None:
    path = spool.returned(number_of(spool, DONE)) / "result.json"
    path.write_text(path.read_text().replace('"state": "done"', '"state": "failed"'))


def notes_gone(spool: Spool) -> None:
    for note in list(accepted.notes(spool)):
        note.path.unlink()


def links_gone(spool: Spool) -> None:
    for path in spool.projects.iterdir():
        if path.is_symlink():
            path.unlink()


def identity_gone(spool: Spool) -> None:
    (spool.root / "spool.id").unlink()


def folders_gone(spool: Spool) -> None:
    for folder in (spool.incoming, spool.jobs):
        shutil.rmtree(folder)


CASES: list[tuple[Damage, str]] = [
    (store_gone, "there is no store at"),
    (store_emptied, "racksack.db is empty"),
    (store_of_text, "is damaged: file is not a database"),
    (pages_damaged, "is damaged"),
    (record_of_an_unfinished_job, "the record of jobs 7 is damaged"),
    (record_of_a_finished_job, "the record of jobs 1 is damaged"),
    (all_records, "the record of nodes here is damaged"),
    (jobs_deleted, "was accepted and has not ended, and the store does not know it"),
    (columns_wrong, "is done, and the store lists it as running"),
    (results_gone, "ended failed, and has no results"),
    (results_of_another_store, "but to another store's"),
    (results_that_contradict, "says failed, and the store done"),
    (notes_gone, "is only in the store"),
    (links_gone, "is missing"),
    (identity_gone, "spool.id is not the id in the store"),
    (folders_gone, "incoming is missing"),
]


def test_a_spool_without_damage_has_no_findings(spool: Spool) -> None:
    assert findings(spool) == []
    assert findings(spool, repair=True) == []


def test_a_spool_that_was_never_used_has_none(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    prepare(spool)
    assert findings(spool) == []


@pytest.mark.parametrize(("damage", "sentence"), CASES, ids=[damage.__name__ for damage, _ in CASES])
async def test_damage_is_explained_and_repaired(spool: Spool, damage: Damage, sentence: str) -> None:
    """Before: said, and nothing changed. After: nothing is left, and every accepted job is there as it was."""
    before, spool_id = jobs_in(spool), (spool.root / "spool.id").read_text().strip()
    damage(spool)
    untouched = contents_of(spool.root)
    said = findings(spool)
    assert any(sentence in one.sentence for one in said), said
    assert all("\n" not in one.sentence and len(one.sentence) < 500 for one in said)
    changed = {name for name, data in contents_of(spool.root).items() if untouched.get(name) != data}
    assert not {name for name in changed if not name.endswith(("-wal", "-shm"))}, "looking changes nothing"
    repaired = findings(spool, repair=True)
    assert all(one.repaired for one in repaired), repaired
    assert findings(spool) == []
    after = jobs_in(spool)
    for name in (DONE, ARRAY, FAILED, HELD, WAITING):
        assert [(job.id, job.state, job.owner, job.array_index) for job in after[name]] == [
            (job.id, job.state, job.owner, job.array_index) for job in before[name]
        ], name
    assert after[HELD][0].spec == before[HELD][0].spec
    assert after[WAITING][0].waits_for == before[WAITING][0].waits_for
    async with started(spool) as app:
        assert app.store.spool_id == spool_id
        assert app.sweeps.unfinished_of("root") == 1
        assert set(app.state.jobs) == {after[HELD][0].id, after[WAITING][0].id}
        drop(spool, "next", JOB.format(project=upload(spool, "up9", PROGRAM), name="next"))
        await until(lambda: submitted(app, "next"), "jobs are taken")
        await until(lambda: jobs_in(spool)["next"][0].state is JobState.DONE, "and run")
        assert jobs_in(spool)["next"][0].id == 10


def test_what_is_in_the_way_is_kept(spool: Spool) -> None:
    results_of_another_store(spool)
    record_of_an_unfinished_job(spool)
    store = spool.database.read_bytes()
    findings(spool, repair=True)
    (aside,) = spool.returns.glob("*.aside-*")
    assert (aside / "out.txt").read_text() == "of somebody else"
    row = msgspec.json.decode((spool.root / "damaged.jsonl").read_bytes())
    assert (row["table"], row["row"]["id"], row["row"]["record"]) == ("jobs", 7, '{"b')
    store_of_text(spool)
    findings(spool, repair=True)
    (kept,) = spool.root.glob("racksack.db.damaged-*")
    assert kept.read_text().startswith("this is no database")
    assert store  # the repaired one was another


async def test_a_controller_starts_with_damaged_records_and_says_so(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    all_records(spool)
    async with started(spool) as app:
        assert app.state.jobs == {}
        for call in ("status", "jobs", "history", "sweeps", "nodes", "usage"):
            assert (await ask(app, "GET", call))[0] == 200, call
        assert (await ask(app, "GET", "jobs/1"))[0] == 404
        drop(spool, "next", JOB.format(project=upload(spool, "up9", PROGRAM), name="next"))
        await until(lambda: submitted(app, "next"), "jobs are taken")
    assert "a record of the table jobs is damaged and was skipped" in caplog.text
    assert "see `racksack fsck`" in caplog.text


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_of_the_file_loses_an_accepted_job(spool: Spool, seed: int) -> None:
    """Bytes anywhere in the store are overwritten, or its end is cut off."""
    before = {job.id: job.state for jobs in jobs_in(spool).values() for job in jobs}
    change(spool, "PRAGMA wal_checkpoint(TRUNCATE)")
    chance = random.Random(seed)
    data = bytearray(spool.database.read_bytes())
    if seed % 4 == 0:
        del data[chance.randrange(len(data)) :]
    for _ in range(chance.randrange(1, 30)):
        at = chance.randrange(max(1, len(data)))
        data[at : at + 64] = chance.randbytes(min(64, len(data) - at))
    spool.database.write_bytes(data)
    repaired = findings(spool, repair=True)
    assert all(one.repaired for one in repaired), repaired
    assert findings(spool) == []
    assert {job.id: job.state for jobs in jobs_in(spool).values() for job in jobs} == before
    Store(spool.database).close()


def test_content_that_is_gone_or_damaged_is_said(spool: Spool) -> None:
    digest = jobs_in(spool)[HELD][0].snapshot
    (spool.snapshots / digest / "main.py").chmod(0o644)
    (spool.snapshots / digest / "main.py").write_text("changed")
    (said,) = findings(spool)
    assert "is damaged, which job 7 of root and 1 more needs; they end with that reason: submit again" in said.sentence
    findings(spool, repair=True)
    assert not (spool.snapshots / digest).exists()
    (said,) = [one for one in findings(spool) if one.what == "content"]
    assert "is gone, which job 7 of root" in said.sentence


def test_a_job_that_is_tried_again_is_not_taken_for_ended(spool: Spool) -> None:
    """It has results of its earlier attempt, and the store is right."""
    number = number_of(spool, FAILED)
    change(
        spool,
        f"""UPDATE jobs SET state = 'queued', ended_at_s = NULL, record = json_set(CAST(record AS TEXT),
            '$.state', 'queued', '$.ended_at_s', NULL) WHERE id = {number}""",
    )
    accepted.note_jobs(spool, jobs_in(spool)[FAILED])
    assert [one for one in findings(spool) if "ended" in one.sentence] == []


def test_a_submission_that_was_noted_twice_is_one_job(spool: Spool) -> None:
    """The controller ended after the note and before the store had the job; the file was taken again."""
    (held,) = jobs_in(spool)[HELD]
    accepted.note_jobs(spool, [msgspec.structs.replace(held, id=50, key="other")])
    assert [one for one in findings(spool, repair=True) if "50" in one.sentence and one.what == "job"] == []
    store_gone(spool)
    findings(spool, repair=True)
    assert len(jobs_in(spool)[HELD]) == 1


def test_notes_go_once_nothing_of_them_is_unfinished(spool: Spool) -> None:
    before = {note.path.name for note in accepted.notes(spool)}
    unfinished = [job.id for jobs in jobs_in(spool).values() for job in jobs if job.ended_at_s is None]
    assert accepted.remove_ended(spool, [*unfinished, 9], 9) == len(before) - 3
    assert {note.first for note in accepted.notes(spool)} == {*unfinished, 9}
    accepted.note_jobs(spool, [msgspec.structs.replace(jobs_in(spool)[HELD][0], id=11)])
    assert accepted.remove_ended(spool, [*unfinished, 9], 9) == 0, "one that is just being accepted stays"


def test_what_nodes_have_is_compared(spool: Spool) -> None:
    with closing(sqlite3.connect(spool.database)) as connection:
        (record,) = connection.execute("SELECT record FROM attempts LIMIT 1").fetchone()
    mine = msgspec.json.decode(record, type=Attempt)
    running = msgspec.structs.replace(mine, ending=None, launched=True, state=JobState.RUNNING, epoch="e1")
    same = report(running.key, "running", epoch="e1")
    assert differences("here", [running], [same]) == []
    (gone,) = differences("here", [running], [])
    assert "has nothing of it; its job runs again" in gone.sentence
    (foreign,) = differences("here", [], [same])
    assert "which the store does not know; the controller ends and removes it" in foreign.sentence
    (older,) = differences("here", [running], [report(running.key, "running", epoch="e0")])
    assert "which the store does not know" in older.sentence
