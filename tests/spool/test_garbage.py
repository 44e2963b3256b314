"""What is old and unused goes, and nothing else does."""

import os
import time
from pathlib import Path

import pytest

from racksack_controller.config.config import Keep
from racksack_controller.intake import garbage
from racksack_controller.intake.garbage import collect_garbage, remove_tree
from racksack_jobspecs.layout import Spool
from tests.spool.conftest import needs_root
from tests.spool.test_ingest import make_project, take

DAY_S = 86400.0
KEEP = Keep(uploads_s=2 * DAY_S, snapshots_s=14 * DAY_S, rejected_s=30 * DAY_S)


def in_days(days: float) -> float:
    return time.time() + days * DAY_S


def snapshot(spool: Spool, text: str) -> str:
    make_project(spool.incoming / "up1")
    (spool.incoming / "up1" / "data" / "table.csv").write_text(text)
    return take(spool).digest


def test_old_content_goes_unless_it_is_used(spool: Spool) -> None:
    used, unused = snapshot(spool, "a"), snapshot(spool, "b")
    assert collect_garbage(spool, {used}, KEEP, in_days(13)) == []
    assert collect_garbage(spool, {used}, KEEP, in_days(15)) == [unused]
    assert [entry.name for entry in spool.snapshots.iterdir()] == [used]


def test_content_that_was_just_referred_to_stays(spool: Spool) -> None:
    digest = snapshot(spool, "a")
    os.utime(spool.snapshots / digest, (in_days(14.5), in_days(14.5)))
    assert collect_garbage(spool, set(), KEEP, in_days(15)) == []


def test_half_removed_content_is_never_found_and_goes_the_next_time(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = snapshot(spool, "a")

    def broken(path: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(garbage, "remove_tree", broken)
        assert collect_garbage(spool, set(), KEEP, in_days(15)) == [digest]
    assert not (spool.snapshots / digest).exists()
    collect_garbage(spool, set(), KEEP, in_days(15))
    assert list(spool.snapshots.iterdir()) == []


def test_uploads_go_when_nothing_in_them_changed_for_long(spool: Spool) -> None:
    make_project(spool.incoming / "stale")
    os.utime(spool.incoming / "stale", (0, 0))  # old content is no old upload
    assert collect_garbage(spool, set(), KEEP, in_days(1)) == []
    assert (spool.incoming / "stale").exists()
    collect_garbage(spool, set(), KEEP, in_days(3))
    assert not (spool.incoming / "stale").exists()


def test_uploads_that_were_being_removed_go_at_once(spool: Spool) -> None:
    make_project(spool.incoming / f"{garbage.GONE}1")
    collect_garbage(spool, set(), KEEP, in_days(0.01))
    assert list(spool.incoming.iterdir()) == []


def test_left_overs_of_writers_and_refused_files_go_in_their_time(spool: Spool) -> None:
    for path in (
        spool.jobs / ".x.yaml.tmp",
        spool.jobs / "x.tmp",
        spool.jobs / "job.yaml",
        spool.rejected / "bad.yaml",
    ):
        path.write_text("x")
    collect_garbage(spool, set(), KEEP, in_days(3))
    assert {path.name for path in spool.jobs.iterdir()} == {"job.yaml", "rejected"}
    assert (spool.rejected / "bad.yaml").exists()
    collect_garbage(spool, set(), KEEP, in_days(31))
    assert list(spool.rejected.iterdir()) == []
    assert (spool.jobs / "job.yaml").exists()


def test_links_of_jobs_whose_content_is_gone_go(spool: Spool) -> None:
    digest = snapshot(spool, "a")
    (spool.projects / "1").symlink_to(f"../snapshots/{digest}")
    (spool.projects / "2").symlink_to("../snapshots/gone")
    collect_garbage(spool, {digest}, KEEP, in_days(1))
    assert [entry.name for entry in spool.projects.iterdir()] == ["1"]


@needs_root
def test_read_only_folders_go_too(open_folder: Path) -> None:
    """As an ordinary user, whom modes bind."""
    tree = open_folder / "tree" / "deep"
    tree.mkdir(parents=True)
    (tree / "file").write_text("x")
    for path in (open_folder, open_folder / "tree", tree):
        os.chown(path, 65534, -1)
    tree.chmod(0o500)
    (open_folder / "tree").chmod(0o500)
    os.seteuid(65534)
    try:
        remove_tree(open_folder / "tree")
    finally:
        os.seteuid(0)
    assert list(open_folder.iterdir()) == []
