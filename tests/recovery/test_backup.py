"""Backups that are made while the controller works, and what they bring back."""

import asyncio
import io
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from racksack_controller.intake.spool import prepare
from racksack_controller.recovery import contents
from racksack_controller.recovery.errors import RecoveryError, RefusedError
from racksack_controller.recovery.sinks import FolderSink
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import JobState
from tests.attacks.controllers import config_of, drop, running, submitted, until, upload
from tests.recovery.conftest import (
    ARRAY,
    DONE,
    FAILED,
    HELD,
    JOB,
    PROGRAM,
    WAITING,
    archived,
    contents_of,
    copied,
    findings,
    jobs_in,
    restored,
    started,
)


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz", "folder"])
async def test_a_backup_brings_all_of_it_back_on_another_machine(spool: Spool, root: Path, name: str) -> None:
    target = root / name
    manifest = (copied if name == "folder" else archived)(spool, target)
    assert (manifest.jobs, manifest.unfinished, len(manifest.of("returns"))) == (8, 2, 6)
    assert manifest.missing == ()
    other = Spool(root / "other" / "spool")
    prepare(other)
    done = restored(other, target)
    assert (done.jobs, done.unfinished, done.returns, done.aside) == (8, 2, 6, ())
    assert jobs_in(other) == jobs_in(spool)
    assert contents_of(other.returns) == contents_of(spool.returns)
    assert contents_of(other.snapshots) == contents_of(spool.snapshots)
    assert findings(other, repair=True) == [] or all(one.repaired for one in findings(other, repair=True))
    assert findings(other) == []
    async with started(other) as app:
        assert app.store.spool_id == manifest.spool_id, "its attempts on the nodes are known again"
        assert app.sweeps.unfinished_of("root") == 1
        drop(other, "next", JOB.format(project=upload(other, "up9", PROGRAM), name="next"))
        await until(lambda: submitted(app, "next"), "jobs are taken")
        await until(lambda: jobs_in(other)["next"][0].state is JobState.DONE, "and run")
        assert jobs_in(other)["next"][0].id == 10, "ids go on"


async def test_a_backup_of_a_busy_controller_is_consistent(root: Path) -> None:
    """Every result that the copy of the store knows is in it, whatever ended meanwhile."""
    async with running(config_of(root)) as app:
        project = upload(app.spool, "up1", PROGRAM)
        for number in range(60):
            drop(app.spool, f"j{number}", JOB.format(project=project, name=f"j{number}"))
        for number in range(4):
            await until(lambda number=number: len(list(app.spool.returns.glob("[0-9]*"))) > 4 * number, "some")
            await asyncio.to_thread(archived, app.spool, root / f"b{number}.tar")
        await until(lambda: len(list(app.spool.returns.glob("[0-9]*"))) == 60, "all of them")
    for number in range(4):
        other = Spool(root / f"other{number}")
        prepare(other)
        restored(other, root / f"b{number}.tar")
        for (job,) in jobs_in(other).values():
            assert (job.state is JobState.DONE) == (other.returned(job.id) / "out.txt").exists(), job.id


def test_a_folder_is_brought_up_to_date(spool: Spool, root: Path) -> None:
    target = root / "folder"
    copied(spool, target)
    digest = next((target / "snapshots").iterdir())
    before = digest.stat().st_ino
    shutil.rmtree(spool.returned(1))
    result = spool.returned(2) / "result.json"
    result.write_text(result.read_text().replace('"attempt": 1', '"attempt": 2'))
    manifest = copied(spool, target)
    assert digest.stat().st_ino == before, "content that is there is not copied again"
    assert "returns/1" not in manifest.trees
    assert not (target / "returns" / "1").exists()
    assert (target / "returns" / "2" / "result.json").read_bytes() == result.read_bytes()


def test_a_backup_that_broke_off_leaves_the_one_before_whole(
    spool: Spool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = root / "folder"
    copied(spool, target)

    def full(_sink: FolderSink, name: str, source: Path) -> contents.Held:
        raise OSError(28, "No space left on device", str(source))

    with monkeypatch.context() as patch:
        patch.setattr(FolderSink, "put_tree", full)
        with pytest.raises(OSError, match="No space left"):
            copied(spool, target)
    other = Spool(root / "other")
    prepare(other)
    assert restored(other, target).jobs == 8


def test_results_may_be_left_out(spool: Spool, root: Path) -> None:
    manifest = archived(spool, root / "b.tar", with_results=False)
    assert manifest.of("returns") == []
    other = Spool(root / "other")
    prepare(other)
    restored(other, root / "b.tar")
    assert {job.id for jobs in jobs_in(other).values() for job in jobs} == set(range(1, 9)) | {
        job.id for jobs in jobs_in(spool).values() for job in jobs
    }


def test_what_an_unfinished_job_needs_and_is_gone_is_said(spool: Spool, root: Path) -> None:
    for path in spool.snapshots.iterdir():
        shutil.rmtree(path)
    manifest = archived(spool, root / "b.tar")
    assert len(manifest.missing) == 1
    assert "which an unfinished job needs, is not in the spool" in manifest.missing[0]


def test_a_store_with_jobs_is_not_replaced_unasked_and_never_lost(spool: Spool, root: Path) -> None:
    archived(spool, root / "b.tar")
    before = contents_of(spool.root)
    with pytest.raises(RefusedError, match="has 9 jobs; with --force it is moved aside"):
        restored(spool, root / "b.tar")
    assert contents_of(spool.root) == before
    done = restored(spool, root / "b.tar", force=True)
    (aside,) = done.aside
    with closing(sqlite3.connect(spool.root / aside)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (8,)


async def test_what_ended_after_the_backup_stays_ended_and_ids_do_not_go_back(spool: Spool, root: Path) -> None:
    async with started(spool) as app:
        archived(spool, root / "b.tar")
        (held,), (waiting,) = jobs_in(spool)[HELD], jobs_in(spool)[WAITING]
        from racksack_controller.core import events as ev

        await app.loop.submit(ev.ReleaseRequested(held.id))
        await until(lambda: jobs_in(spool)[WAITING][0].state is JobState.DONE, "both have run")
        drop(spool, "later", JOB.format(project=upload(spool, "up2", PROGRAM), name="later"))
        await until(lambda: submitted(app, "later"), "another job")
        await until(lambda: jobs_in(spool)["later"][0].state is JobState.DONE, "and its end")
        (later,) = jobs_in(spool)["later"]
    restored(spool, root / "b.tar", force=True)
    assert jobs_in(spool)[HELD][0].state is JobState.HELD, "the copy is older"
    repaired = findings(spool, repair=True)
    assert all(one.repaired for one in repaired), repaired
    after = jobs_in(spool)
    assert [after[name][0].state for name in (HELD, WAITING, "later")] == [JobState.DONE] * 3
    assert findings(spool) == []
    inodes = {number: spool.returned(number).stat().st_ino for number in (held.id, waiting.id, later.id)}
    async with started(spool) as app:
        drop(spool, "next", JOB.format(project=upload(spool, "up3", PROGRAM), name="next"))
        await until(lambda: submitted(app, "next"), "a new job")
        assert jobs_in(spool)["next"][0].id > later.id
    assert inodes == {number: spool.returned(number).stat().st_ino for number in inodes}, "none ran twice"


def test_results_of_another_store_are_moved_aside_and_never_mixed(spool: Spool, root: Path) -> None:
    archived(spool, root / "b.tar")
    other = Spool(root / "other")
    prepare(other)
    (done,) = jobs_in(spool)[DONE]
    foreign = other.returned(done.id)
    foreign.mkdir()
    (foreign / "result.json").write_text('{"job": 1, "key": "another", "owner": "eve", "submitted_at_s": 1}')
    (foreign / "mine.txt").write_text("of eve")
    result = restored(other, root / "b.tar")
    (aside,) = result.aside
    assert (other.root / aside / "mine.txt").read_text() == "of eve"
    assert contents_of(other.returned(done.id)) == contents_of(spool.returned(done.id))


def test_a_newer_result_of_the_same_job_stays(spool: Spool, root: Path) -> None:
    archived(spool, root / "b.tar")
    newer = spool.returned(1) / "out.txt"
    newer.write_text("of a later attempt")
    restored(spool, root / "b.tar", force=True)
    assert newer.read_text() == "of a later attempt"


@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["cut", "flipped"])
def test_a_damaged_archive_changes_nothing(spool: Spool, root: Path, kind: str, part: float) -> None:
    (spool.returned(1) / "large").write_bytes(os.urandom(3_000_000))
    whole = root / "b.tar.gz"
    archived(spool, whole)
    data = bytearray(whole.read_bytes())
    at = min(int(len(data) * part), len(data) - 20)
    damaged = root / "damaged.tar.gz"
    damaged.write_bytes(data[:at] if kind == "cut" else data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
    before = contents_of(spool.root)
    if kind == "flipped" and part == 0.0:
        assert data[at] == 0x1F  # the first byte of gzip's mark
    with pytest.raises(RecoveryError, match=r"damaged|no whole backup|cannot be read"):
        restored(spool, damaged, force=True)
    assert contents_of(spool.root) == before


def archive_of(path: Path, members: list[tarfile.TarInfo], manifest: bytes = b"{}") -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
        last = tarfile.TarInfo(contents.MANIFEST)
        last.size = len(manifest)
        archive.addfile(last, io.BytesIO(manifest))
    return path


@pytest.mark.parametrize("name", ["../out", "/etc/out", "returns/../../out", "returns/1/../../../out"])
def test_names_that_lead_out_are_refused(spool: Spool, root: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    with pytest.raises(RecoveryError, match="leads out of its folder"):
        restored(spool, archive_of(root / "b.tar", [member]), force=True)
    assert not (root / "out").exists()


def test_nothing_is_written_through_a_link(spool: Spool, root: Path) -> None:
    """A link and a file below it under one name: the link comes last, where a folder stands by then."""
    outside = root / "outside"
    outside.mkdir()
    link = tarfile.TarInfo("returns/1/a")
    link.type, link.linkname = tarfile.SYMTYPE, str(outside)
    inner = tarfile.TarInfo("returns/1/a/stolen")
    inner.size = 3
    with pytest.raises((RecoveryError, OSError)):
        restored(spool, archive_of(root / "b.tar", [link, inner]), force=True)
    assert list(outside.iterdir()) == []


def test_an_archive_of_a_later_racksack_is_refused(spool: Spool, root: Path) -> None:
    manifest = archived(spool, root / "b.tar")
    later = msgspec.json.encode(msgspec.structs.replace(manifest, format=99, version="9.9"))
    with pytest.raises(RecoveryError, match=r"was made by another version of racksack \(9.9\)"):
        restored(spool, archive_of(root / "c.tar", [], later), force=True)


@pytest.mark.parametrize("name", ["racksack.db", "returns/1/out.txt", "returns/1/stdout.log", "projects/7-7.jobs"])
def test_one_other_bit_in_a_folder_is_noticed(spool: Spool, root: Path, name: str) -> None:
    """Also in what was copied by an earlier backup and did not change."""
    copied(spool, root / "folder")
    copied(spool, root / "folder")
    data = bytearray((root / "folder" / name).read_bytes())
    data[-1] ^= 1
    (root / "folder" / name).write_bytes(data)
    before = contents_of(spool.root)
    with pytest.raises(RecoveryError, match=r"the backup is damaged|the backup's store"):
        restored(spool, root / "folder", force=True)
    assert contents_of(spool.root) == before


def names_in(folder: Path) -> list[bytes]:
    return sorted(os.fsencode(path.name) for path in folder.iterdir())


def test_names_links_and_modes_of_results_come_back(spool: Spool, root: Path) -> None:
    folder = spool.returned(1)
    odd = os.fsencode(folder) + b"/caf\xe9 \n\x1b[31m"
    with open(odd, "wb") as file:
        file.write(b"odd")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("out.txt")
    (folder / "empty").mkdir()
    for target in (root / "b.tar.gz", root / "folder"):
        (copied if target.suffix == "" else archived)(spool, target)
        other = Spool(root / f"other{target.suffix}")
        prepare(other)
        restored(other, target)
        back = other.returned(1)
        assert names_in(back) == names_in(folder)
        assert (back / "link").readlink() == Path("out.txt")
        assert (back / "run.sh").stat().st_mode & 0o777 == 0o755


def test_all_states_are_there(spool: Spool) -> None:
    """What these tests rest on."""
    jobs = jobs_in(spool)
    assert [job.state for job in jobs[ARRAY]] == [JobState.DONE] * 4
    states = {name: jobs[name][0].state for name in (DONE, FAILED, HELD, WAITING)}
    assert states == {DONE: "done", FAILED: "failed", HELD: "held", WAITING: "queued"}
