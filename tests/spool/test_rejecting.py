"""Files leave the drop folder as they should, even when another file has taken the name, or the power goes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from racksack_controller.intake.drop import DroppedFile, Heard, look
from racksack_controller.intake.reject import discard, finish_taken, reject
from racksack_controller.intake.spool import prepare
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.yamltext import Problem
from tests.spool.conftest import GOOD, drop, needs_root
from tests.spool.killing import run_until_killed

PROBLEMS = [Problem(2, "ram", "32 has no unit; write 32G"), Problem(0, "", "it can never run")]


def dropped(path: Path, text: str | bytes = GOOD) -> DroppedFile:
    drop(path, text)
    return seen(path)


def seen(path: Path) -> DroppedFile:
    found = look(path, Heard(renamed=True), None, 0.0, time.monotonic(), time.time(), leases=True)
    assert isinstance(found, DroppedFile)
    return found


def jobs(spool: Spool) -> set[str]:
    return {entry.name for entry in os.scandir(spool.jobs)} - {"rejected"}


def test_a_refused_file_lies_beside_its_reasons(spool: Spool) -> None:
    reject(spool, dropped(spool.jobs / "bad.yaml"), PROBLEMS)
    assert jobs(spool) == set()
    assert (spool.rejected / "bad.yaml").read_text() == GOOD
    assert (spool.rejected / "bad.yaml.error").read_text() == (
        "bad.yaml was refused. Fix it and put it into jobs/ again.\n"
        "line 2: ram: 32 has no unit; write 32G\n"
        "it can never run\n"
    )
    assert sorted(entry.name for entry in os.scandir(spool.rejected)) == ["bad.yaml", "bad.yaml.error"]


def test_the_same_name_refused_again_replaces_the_first(spool: Spool) -> None:
    for text in ("a: 1\n", "b: 2\n"):
        reject(spool, dropped(spool.jobs / "bad.yaml", text), PROBLEMS)
    assert (spool.rejected / "bad.yaml").read_text() == "b: 2\n"


@needs_root
def test_but_not_what_somebody_else_had_refused(spool: Spool) -> None:
    reject(spool, dropped(spool.jobs / "bad.yaml", "mine"), PROBLEMS)
    drop(spool.jobs / "bad.yaml", "theirs")
    os.chown(spool.jobs / "bad.yaml", 65534, -1)
    reject(spool, seen(spool.jobs / "bad.yaml"), PROBLEMS)
    assert (spool.rejected / "bad.yaml").read_text() == "mine"
    kept = list(spool.rejected.glob("bad-*.yaml"))
    assert [path.read_text() for path in kept] == ["theirs"]
    assert kept[0].with_name(kept[0].name + ".error").exists()


def odd_makers() -> dict[str, Callable[[Path], object]]:
    return {
        "link": lambda path: path.symlink_to("/etc/passwd"),
        "dangling": lambda path: path.symlink_to("nowhere"),
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "full folder": lambda path: (path / "inner" / "deep").mkdir(parents=True),
    }


@pytest.mark.parametrize("kind", odd_makers())
def test_odd_things_are_moved_away_too(spool: Spool, kind: str) -> None:
    path = spool.jobs / "odd.yaml"
    odd_makers()[kind](path)
    reject(spool, seen(path), PROBLEMS)
    assert jobs(spool) == set()
    assert (spool.rejected / "odd.yaml.error").exists()
    assert Path("/etc/passwd").stat().st_nlink == 1


@pytest.mark.parametrize(
    "name", ["a\nb.yaml", "<b>.yaml", os.fsdecode(b"\xff.yaml"), "x" * 250 + ".yaml", "$(id).yaml"]
)
def test_odd_names(spool: Spool, name: str) -> None:
    reject(spool, dropped_long(spool, name), PROBLEMS)
    assert jobs(spool) == set()
    errors = list(spool.rejected.glob("*.error"))
    assert len(errors) == 1
    assert errors[0].read_text().count("\n") == 3


def dropped_long(spool: Spool, name: str) -> DroppedFile:
    (spool.jobs / name).write_text(GOOD)
    return seen(spool.jobs / name)


def test_an_accepted_file_is_gone(spool: Spool) -> None:
    file = dropped(spool.jobs / "good.yaml")
    discard(file)
    assert jobs(spool) == set()
    discard(file)  # and again, as after a crash


@pytest.mark.parametrize("remove", [discard, lambda file: reject(Spool(file.path.parents[1]), file, PROBLEMS)])
def test_a_file_that_took_the_name_meanwhile_stays(spool: Spool, remove: Callable[[DroppedFile], None]) -> None:
    file = dropped(spool.jobs / "same.yaml")
    drop(spool.jobs / "same.yaml", "unread\n")
    remove(file)
    assert jobs(spool) == {"same.yaml"}
    assert (spool.jobs / "same.yaml").read_text() == "unread\n"


def accept_one(folder: Path) -> None:
    discard(seen(folder / "jobs" / "job.yaml"))


def refuse_one(folder: Path) -> None:
    reject(Spool(folder), seen(folder / "jobs" / "job.yaml"), PROBLEMS)


def replace_and_discard(folder: Path) -> None:
    """Another file takes the name while the first is in hand; it is found under the name that the first had."""
    file = seen(folder / "jobs" / "job.yaml")
    (folder / "jobs" / ".second").rename(folder / "jobs" / "job.yaml")
    discard(file)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("work", [accept_one, refuse_one])
def test_killed_anywhere_the_file_is_in_jobs_or_judged(tmp_path: Path, work: Callable[[Path], None], when: str) -> None:
    """An accepted file may be met again (its key is known then); a refused one must never be lost."""
    for number in range(1, 40):
        spool = Spool(tmp_path / str(number))
        prepare(spool)
        drop(spool.jobs / "job.yaml", GOOD)
        ended = run_until_killed(work, spool.root, number, when)
        finish_taken(spool.jobs)
        finish_taken(spool.jobs)
        here = {name for name in jobs(spool) if name.endswith(".yaml")}
        if work is refuse_one:
            kept = (spool.rejected / "job.yaml").exists() and (spool.rejected / "job.yaml.error").exists()
            assert here or kept
        assert not [name for name in jobs(spool) if name.startswith(".")]
        if ended:
            assert not here
            return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_anywhere_an_unread_file_is_not_lost(tmp_path: Path, when: str) -> None:
    for number in range(1, 40):
        spool = Spool(tmp_path / str(number))
        prepare(spool)
        drop(spool.jobs / "job.yaml", GOOD)
        (spool.jobs / ".second").write_text("unread\n")
        ended = run_until_killed(replace_and_discard, spool.root, number, when)
        finish_taken(spool.jobs)
        texts = [path.read_text() for path in spool.jobs.iterdir() if path.is_file()]
        assert texts.count("unread\n") >= 1
        if ended:
            assert texts == ["unread\n"]
            return
    raise AssertionError("it never came to an end")
