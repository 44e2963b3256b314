"""Whose content is whose, with the real store, and what a crash at any point leaves."""

import asyncio
import os
from pathlib import Path

import pytest

from racksack_controller.intake.ingest import IngestError
from racksack_controller.intake.projects import Projects
from racksack_controller.intake.spool import prepare
from racksack_controller.store import Store
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.parse import parse_job
from racksack_jobspecs.snapshot import digest_of, manifest_of
from racksack_jobspecs.spec import JobSpec
from tests.spool.killing import run_until_killed
from tests.spool.test_ingest import make_project


def spec_of(project: str, entrypoint: str = "main.py") -> JobSpec:
    return parse_job(f"project: {project}\nentrypoint: {entrypoint}\n")


def take(spool: Spool, project: str, owner: str = "ann") -> str:
    store = Store(spool.database)
    try:
        return asyncio.run(Projects(spool, store, is_shared=False).take(spec_of(project), owner, os.geteuid()))
    finally:
        store.close()


def test_an_upload_can_be_named_by_many_job_files(spool: Spool) -> None:
    make_project(spool.incoming / "up1")
    digest = digest_of(manifest_of(spool.incoming / "up1"))
    store = Store(spool.database)
    projects = Projects(spool, store, is_shared=False)

    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(projects.take(spec_of("up1"), "ann", os.geteuid()) for _ in range(20)))

    assert asyncio.run(all_at_once()) == [digest] * 20
    assert len(projects._uploads) == 0
    store.close()
    assert take(spool, "up1") == digest
    assert take(spool, f"snapshot:{digest}") == digest


def test_the_announced_content_is_what_arrived(spool: Spool) -> None:
    """A temporary file that a killed rsync left does not become part of the project."""
    make_project(spool.incoming / "up1")
    digest = digest_of(manifest_of(spool.incoming / "up1"))
    (spool.incoming / "up1" / ".table.csv.KZUYuW").write_text("half")
    store = Store(spool.database)
    spec = parse_job(f"project: up1\nentrypoint: main.py\ndigest: {digest}\n")
    projects = Projects(spool, store, is_shared=False)
    with pytest.raises(IngestError, match="differs from the announced content"):
        asyncio.run(projects.take(spec, "ann", os.geteuid()))
    (spool.incoming / "up1" / ".table.csv.KZUYuW").unlink()
    assert asyncio.run(projects.take(spec, "ann", os.geteuid())) == digest
    store.close()


def test_a_name_that_is_used_again_means_what_was_sent_last(spool: Spool) -> None:
    """As with a script that always sends to the same folder."""
    digests = []
    for text in ("a", "b", "a"):
        make_project(spool.incoming / "up1")
        (spool.incoming / "up1" / "data" / "table.csv").write_text(text)
        digests.append(take(spool, "up1"))
    assert digests[0] == digests[2] != digests[1]


def test_content_belongs_to_those_who_sent_it(spool: Spool) -> None:
    make_project(spool.incoming / "up1")
    digest = take(spool, "up1", "ann")
    for project in (f"snapshot:{digest}", "up1"):
        with pytest.raises(IngestError, match="send the project"):
            take(spool, project, "bob")
    make_project(spool.incoming / "up2")
    assert take(spool, "up2", "bob") == digest
    assert take(spool, f"snapshot:{digest}", "bob") == digest


def test_content_that_is_gone_is_asked_for_again(spool: Spool) -> None:
    make_project(spool.incoming / "up1")
    digest = take(spool, "up1")
    (spool.snapshots / digest).rename(spool.snapshots / ".gone-x")
    for project in (f"snapshot:{digest}", "up1"):
        with pytest.raises(IngestError, match="send the project"):
            take(spool, project)


def test_the_entrypoint_is_looked_for_in_old_content_too(spool: Spool) -> None:
    make_project(spool.incoming / "up1")
    digest = take(spool, "up1")
    store = Store(spool.database)
    for project in (f"snapshot:{digest}", "up1"):
        with pytest.raises(IngestError, match=r"the entrypoint mian\.py is not in the project; did you mean main\.py"):
            asyncio.run(Projects(spool, store, is_shared=False).take(spec_of(project, "mian.py"), "ann", os.geteuid()))
    store.close()


def take_one(folder: Path) -> None:
    take(Spool(folder), "up1")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("known", [False, True], ids=["new content", "known content"])
def test_killed_anywhere_it_is_taken_the_next_time(tmp_path: Path, when: str, known: bool) -> None:
    for number in range(1, 80):
        spool = Spool(tmp_path / str(number))
        prepare(spool)
        if known:
            make_project(spool.incoming / "earlier")
            take(spool, "earlier")
        make_project(spool.incoming / "up1")
        digest = digest_of(manifest_of(spool.incoming / "up1"))
        ended = run_until_killed(take_one, spool.root, number, when)
        assert take(spool, "up1") == digest
        assert digest_of(manifest_of(spool.snapshots / digest)) == digest
        assert [entry.name for entry in spool.snapshots.iterdir()] == [digest]
        if ended:
            assert not (spool.incoming / "up1").exists()
            assert number > 3
            return
    raise AssertionError("it never came to an end")
