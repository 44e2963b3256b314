"""No file stops the controller or keeps it from starting: what nobody foresaw sets that one file aside."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from racksack_controller import upkeep
from racksack_controller.intake import accept, projects, watcher
from racksack_controller.intake.journal import Journal
from racksack_controller.users import name_of
from racksack_jobspecs.layout import Spool
from tests.attacks.controllers import GOOD, config_of, drop, refused, running, submitted, until, upload

SWEEP = "project: {project}\nentrypoint: main.py\nsweep: {{function: f, params: {{{params}}}, {rest}}}\n"
LIMITLESS = {
    "a-multiplied-list": SWEEP.format(project="up1", params="fast: [1, 2]", rest="where: 'fast in [1] * 100000000000'"),
    "a-format": SWEEP.format(project="up1", params="fast: [1, 2]", rest="where: '\"%2000000000d\" % fast == \"1\"'"),
    "an-endless-step": SWEEP.format(project="up1", params="fast: '0:1e299:1'", rest="metric: value:max"),
    "nothing-left": SWEEP.format(
        project="up1",
        params="a: 1:400:1, b: 1:400:1, c: 1:400:1",
        rest="where: 'a > b + 1000', search: {kind: random, count: 5}",
    ),
}  # fmt: skip


async def test_files_that_ended_the_controller_are_set_aside(root: Path) -> None:
    async with running(config_of(root)) as app:
        upload(app.spool, "up1", "def f(**params):\n    return 1\n")
        for name, text in LIMITLESS.items():
            drop(app.spool, name, text)
        drop(app.spool, "good", GOOD.format(project=upload(app.spool, "up2")) + "name: good\n")
        await until(lambda: submitted(app, "good"), "the good file is taken")
        for name in LIMITLESS:
            await until(lambda name=name: bool(refused(app.spool, name)), name)  # type: ignore[misc]
            assert "line" in refused(app.spool, name) or "sweep.where" in refused(app.spool, name)
        assert not list(app.spool.jobs.glob("*.yaml"))


@pytest.mark.parametrize(
    "error", [RuntimeError("what is this?"), MemoryError(), RecursionError("too deep"), KeyError("x")]
)
async def test_what_nobody_foresaw_in_one_file_sets_it_aside(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    as_it_is = accept.settled

    def faulty(spec: Any, *rest: Any) -> Any:
        if spec.name == "odd":
            raise error
        return as_it_is(spec, *rest)

    monkeypatch.setattr(accept, "settled", faulty)
    async with running(config_of(root)) as app:
        drop(app.spool, "odd", GOOD.format(project=upload(app.spool, "up1")) + "name: odd\nsubmission: k1\n")
        drop(app.spool, "good", GOOD.format(project=upload(app.spool, "up2")) + "name: good\n")
        await until(lambda: submitted(app, "good"), "the good file is taken")
        await until(lambda: bool(refused(app.spool, "odd")), "the odd file is set aside")
        assert type(error).__name__ in refused(app.spool, "odd")
        assert "a bug in racksack" in refused(app.spool, "odd")
        assert "Traceback" not in refused(app.spool, "odd")
        outcome = await app.intake.outcome(name_of(os.geteuid()), "k1", 30.0)
        assert outcome is not None
        assert type(error).__name__ in str(outcome["error"])
    assert not Journal(app.spool.journal).crashes("any")


async def test_files_that_met_a_full_disk_are_taken_soon_after_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They once waited ever longer, up to an hour."""
    monkeypatch.setattr(accept, "POSTPONE_S", 0.2)
    as_it_is, tries = projects.ingest.examine, list[str]()

    def full(*arguments: Any, **named: Any) -> Any:
        tries.append(named["upload"])
        if len(tries) < 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return as_it_is(*arguments, **named)

    monkeypatch.setattr(projects.ingest, "examine", full)
    async with running(config_of(root)) as app:
        drop(app.spool, "good", GOOD.format(project=upload(app.spool, "up1")) + "name: good\n")
        await until(lambda: submitted(app, "good"), "the file is taken once there is room")
        assert tries == ["up1"] * 8
        assert not refused(app.spool, "good")


async def test_a_part_that_fails_begins_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(config_of(root)) as app:
        as_it_is, failures = app.watcher._note, [RuntimeError("once"), KeyError("twice")]

        def faulty(*arguments: Any) -> Any:
            if failures:
                raise failures.pop()
            return as_it_is(*arguments)

        monkeypatch.setattr(app.watcher, "_note", faulty)
        drop(app.spool, "good", GOOD.format(project=upload(app.spool, "up1")) + "name: good\n")
        await until(lambda: submitted(app, "good"), "the file is taken after all")
        assert not failures


BOMB = """
import os, sys
from racksack_controller import upkeep
from racksack_controller.intake import accept, projects, watcher
from racksack_controller.users import name_of
as_it_is = accept.settled
def settled(spec, *rest):
    if spec.name == "bomb":
        os._exit(70)
    return as_it_is(spec, *rest)
accept.settled = settled
from racksack_controller.main import main
sys.exit(main(["--embedded", "--home", sys.argv[1]]))
"""


def controller(home: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "RACKSACK_HOME": str(home), "HOME": str(home)}
    with (home / "out").open("ab") as out:
        return subprocess.Popen([sys.executable, "-P", "-c", BOMB, str(home)], env=env, stdout=out, stderr=out)


def wait_for(done: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_file_over_which_the_controller_ended_twice_is_set_aside_at_the_next_start(root: Path) -> None:
    (root / "racksack.yaml").write_text("nodes:\n  here: {local: {}, cpus: 1, ram: 1G}\nweb: {listen: none}\n")
    spool = Spool(root / "spool")
    first = controller(root)
    wait_for(lambda: spool.socket.exists() or first.poll() is not None, "the controller starts")
    assert first.poll() is None, (root / "out").read_text()
    drop(spool, "bomb", GOOD.format(project=upload(spool, "up1")) + "name: bomb\n")
    assert first.wait(60) == 70
    second = controller(root)
    assert second.wait(60) == 70
    drop(spool, "good", GOOD.format(project=upload(spool, "up2")) + "name: good\n")
    third = controller(root)
    try:
        wait_for(lambda: refused(spool, "bomb"), "the bomb is set aside")
        assert "ended 2 times while it took this file in" in refused(spool, "bomb")
        wait_for(lambda: not list(spool.jobs.glob("*.yaml")), "the good file is taken")
        assert not refused(spool, "good")
        assert third.poll() is None
    finally:
        third.terminate()
        assert third.wait(60) == 0


NEVER_LEFT: list[Any] = []


def killed_at(journal: Journal, *keys: str) -> None:
    """As the journal stands when its process is killed while it works on these files."""
    for key in keys:
        block = journal.working_on(key)
        block.__enter__()
        NEVER_LEFT.append(block)


def test_the_journal_counts_ends_over_a_file_until_it_was_taken(tmp_path: Path) -> None:
    path = tmp_path / "intake.journal"
    killed_at(Journal(path), "a", "b")
    second = Journal(path)  # the first was killed
    assert [second.crashes(key) for key in ("a", "b", "c")] == [1, 1, 0]
    with second.working_on("b"):
        pass
    second.end("b")
    killed_at(second, "a")
    third = Journal(path)
    assert [third.crashes(key) for key in ("a", "b", "c")] == [2, 0, 0]
    with third.working_on("d"):
        pass  # it waits for something now
    assert Journal(path).crashes("d") == 0
    third.close()  # as it was asked to
    assert [Journal(path).crashes(key) for key in ("a", "d")] == [2, 0]


def test_a_restart_of_the_machine_is_nobodys_fault(tmp_path: Path) -> None:
    path = tmp_path / "intake.journal"
    killed_at(Journal(path), "a")
    path.write_text(path.read_text().replace(path.read_text().split()[1], "another-boot"))
    assert Journal(path).crashes("a") == 0


def test_a_journal_of_nonsense_suspects_nobody(tmp_path: Path) -> None:
    path = tmp_path / "intake.journal"
    path.write_bytes(b"\xff\n! x y\n+\n! 99999999999999 k\nboot\n- z\n" * 3)
    assert Journal(path).crashes("k") == 0
    path.unlink()
    path.mkdir()
    journal = Journal(path)
    with journal.working_on("a"):
        pass
    journal.end("a")
    journal.close()


def test_the_journal_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "intake.journal"
    journal = Journal(path)
    killed_at(journal, "kept")
    for number in range(20_000):
        with journal.working_on(f"f-{number:040}"):
            pass
        journal.end(f"f-{number:040}")
    assert path.stat().st_size < 300 * 1024
    assert Journal(path).crashes("kept") == 1


async def test_a_refused_file_that_cannot_be_moved_is_moved_soon_after_it_can(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while the disk is full; the look through the folder alone would come half a minute later, or an hour."""
    monkeypatch.setattr(accept, "POSTPONE_S", 0.1)
    monkeypatch.setattr(watcher, "AGAIN_FIRST_S", 3600.0)
    monkeypatch.setattr(upkeep, "LOOK_EVERY_S", 3600.0)
    async with running(config_of(root)) as app:
        app.spool.rejected.rmdir()
        app.spool.rejected.write_text("in the way")
        path = drop(app.spool, "bad", "nonsense: 1\n")
        await until(lambda: bool(app.intake._outcomes), "it is looked at")
        assert path.exists()
        app.spool.rejected.unlink()
        app.spool.rejected.mkdir()
        await until(lambda: bool(refused(app.spool, "bad")), "it is refused")
