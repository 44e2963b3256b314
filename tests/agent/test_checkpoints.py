"""Checkpoints on a node: which files, of which moment, and what is left when something dies in between."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor.checkpoints import chosen, kept, resuming, taking, writers
from racksack_agent.supervisor.checkpoints.chosen import Incomplete, choose
from racksack_agent.supervisor.checkpoints.keeper import Keeper, Processes
from racksack_agent.supervisor.end import End, StopRequest
from racksack_agent.supervisor.terminal_echo import Echo


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def until(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# Which files


def test_a_folder_is_taken_whole_and_a_pattern_as_it_matches(tmp_path: Path) -> None:
    write(tmp_path, ckpt__a="1", ckpt__deep__b="2", other="3", model_1="4", model_2="5")
    assert choose(str(tmp_path), ["ckpt"]).paths == ("ckpt/a", "ckpt/deep/b")
    assert choose(str(tmp_path), ["ckpt/", "model_*"]).paths == ("ckpt/a", "ckpt/deep/b", "model_1", "model_2")
    assert choose(str(tmp_path), ["nothing/*"]).paths == ()
    assert not choose(str(tmp_path), ["ckpt"]).is_marked


@pytest.mark.parametrize("is_link", [False, True])
def test_current_names_what_is_whole(tmp_path: Path, is_link: bool) -> None:
    write(tmp_path, ckpt__one__a="1", ckpt__two__a="2", ckpt__three__a="half")
    (tmp_path / "ckpt/CURRENT").symlink_to("two") if is_link else write(tmp_path, ckpt__CURRENT="two\n")
    found = choose(str(tmp_path), ["ckpt"])
    assert found.paths == ("ckpt/CURRENT", "ckpt/two/a")
    assert found.is_marked


@pytest.mark.parametrize("name", ["four", "", "/etc", "../x"])
def test_current_that_names_nothing_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    write(tmp_path, ckpt__one__a="1", ckpt__CURRENT=name)
    with pytest.raises(Incomplete, match="CURRENT"):
        choose(str(tmp_path), ["ckpt"])


def test_sums_list_what_is_whole_and_a_wrong_one_is_found(tmp_path: Path) -> None:
    write(tmp_path, ckpt__a="1", ckpt__b="2", ckpt__new="half")
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {name}" for name, text in (("a", "1"), ("b", "2"))]
    write(tmp_path, ckpt__SHA256SUMS="\n".join(lines))
    found = choose(str(tmp_path), ["ckpt"])
    assert found.paths == ("ckpt/SHA256SUMS", "ckpt/a", "ckpt/b")
    assert found.is_marked
    chosen.check_sums(str(tmp_path), found.sums)
    write(tmp_path, ckpt__b="another")
    with pytest.raises(Incomplete, match="ckpt/b"):
        chosen.check_sums(str(tmp_path), found.sums)
    for text, sentence in (("nonsense", "line"), (lines[0] + "\n" + "0" * 64 + "  gone", "gone"), ("", "no file")):
        write(tmp_path, ckpt__SHA256SUMS=text)
        with pytest.raises(Incomplete, match=sentence):
            choose(str(tmp_path), ["ckpt"])


def test_marks_of_what_current_leaves_out_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, ckpt__one__a="1", ckpt__two__SHA256SUMS="half a li", ckpt__CURRENT="one")
    assert choose(str(tmp_path), ["ckpt"]).paths == ("ckpt/CURRENT", "ckpt/one/a")


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("ckpt", "ckpt"),
        ("ckpt/", "ckpt"),
        ("run.1/", "run.1"),
        ("state.npz", ""),
        ("out/model-*.pt", "out"),
        ("out/**", "out"),
        ("*.pt", ""),
    ],
)
def test_the_folder_that_programs_are_told(pattern: str, folder: str) -> None:
    assert chosen.folder_of("/srv/run", [pattern]) == os.path.normpath(f"/srv/run/{folder}")


# Of which moment


def copy(work: Path, target: Path, check: Callable[[], None] = lambda: None) -> taking.Taken:
    versions = taking.versions_of(str(work), choose(str(work), ["."]).paths)
    target.mkdir()
    return taking.take(str(work), versions, str(target), {}, "", check)


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    work = tmp_path / "work"
    write(work, a="x" * 100_000)

    def change() -> None:
        with (work / "a").open("a") as file:
            file.write("more")

    with pytest.raises(Incomplete, match="a changed while it was read"):
        copy(work, tmp_path / "copy", change)


def test_a_file_that_is_replaced_while_it_is_read_is_taken_as_it_was(tmp_path: Path) -> None:
    work = tmp_path / "work"
    write(work, a="old" * 1000)

    def replace() -> None:
        write(tmp_path, new="new")
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "new").rename(work / "a") if (tmp_path / "copy/a").exists() else None

    taken = copy(work, tmp_path / "copy", replace)
    assert (tmp_path / "copy/a").read_text() == "old" * 1000
    assert (taken.files, taken.bytes) == (1, 3000)


def test_several_files_are_of_one_moment(tmp_path: Path) -> None:
    work = tmp_path / "work"
    write(work, a="1", b="1", c="1")

    def change() -> None:
        if (tmp_path / "copy/a").exists():
            write(work, a="2")

    with pytest.raises(Incomplete, match="changed"):
        copy(work, tmp_path / "copy", change)


def test_what_is_open_for_writing_or_mapped_so_is_seen(tmp_path: Path) -> None:
    write(tmp_path, a="1", b="2", c="3")
    me = [os.getpid()]
    with (tmp_path / "a").open(), (tmp_path / "a").open("rb"):
        assert writers.being_written(str(tmp_path), ["a", "b", "c"], me) is None
    with (tmp_path / "b").open("a"):
        assert writers.being_written(str(tmp_path), ["a", "b", "c"], me) == "b"
    with (tmp_path / "c").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert writers.being_written(str(tmp_path), ["a", "b", "c"], me) == "c"
    mapped.close()
    assert writers.being_written(str(tmp_path), ["a", "b", "c"], me) is None


# Taking and keeping

WRITER = """
import os, sys, time
place = os.environ["RACKSACK_CHECKPOINT_DIR"]
if sys.argv[1] == "half":
    file = open(place + "/state", "w"); file.write("half"); file.flush()
elif sys.argv[1] == "whole":
    with open(place + "/new", "w") as file: file.write("whole")
    os.rename(place + "/new", place + "/state")
print("ready", flush=True)
time.sleep(600)
"""


class Attempt:
    """A folder of an attempt with a program that saves in it, and what keeps its checkpoints."""

    def __init__(self, root: Path, does: str, every_s: float = 0.2, resubmit_on: tuple[int, ...] = ()) -> None:
        self.folder = AttemptFolder(str(root / "attempts/1.1"))
        self.work = Path(self.folder.work)
        (self.work / "ckpt").mkdir(parents=True)
        self.order = {
            "checkpoint": {
                "paths": ["ckpt"], "every_s": every_s, "digest": "", "resubmit_on": list(resubmit_on), "saves": True,
            }
        }  # fmt: skip
        self.told: list[dict[str, object]] = []
        resuming.provide(self.folder, self.order, StopRequest(os.devnull, Echo("", None)))
        env = {"PATH": os.environ["PATH"]}
        env.update(resuming.variables(self.folder, self.order, env))
        self.env = env
        self.program = subprocess.Popen(
            [sys.executable, "-S", "-c", WRITER, does], cwd=self.work, env=env, stdout=subprocess.PIPE
        )
        assert self.program.stdout is not None
        self.program.stdout.readline()
        self.keeper = self.keep()

    def keep(self) -> Keeper:
        alive = Processes(lambda: [self.program.pid], lambda: self.program.poll() is None)
        return Keeper(self.folder, self.order, alive, self.told.append)

    def newest(self) -> dict[str, str]:
        """The files of the newest checkpoint."""
        record = kept.newest(self.folder)
        if record is None:
            return {}
        root = Path(kept.path_of(self.folder, record["number"]))
        return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}

    def end(self, end: End) -> None:
        self.program.kill()
        self.program.wait()
        self.keeper.close(end)


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Callable[..., Attempt]]:
    made: list[Attempt] = []

    def make(does: str, **options: object) -> Attempt:
        made.append(Attempt(tmp_path, does, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.end(End("done", ""))
        assert one.program.stdout is not None
        one.program.stdout.close()


CANCELLED = End("cancelled", "", exit_code=1)
KILLED = End("cancelled", "", signal=9)


def test_what_a_program_saves_is_taken_and_told(attempt: Callable[..., Attempt]) -> None:
    one = attempt("whole")
    until(one.newest, "a checkpoint")
    assert one.newest() == {"ckpt/state": "whole"}
    until(lambda: one.keeper.look() or one.told, "it is told")
    assert (one.told[-1]["number"], one.told[-1]["files"], one.told[-1]["bytes"]) == (1, 1, 5)
    time.sleep(0.5)
    assert kept.numbers(one.folder) == [1], "what has not changed is not taken again"


def test_an_unfinished_file_is_never_taken_not_even_when_its_program_is_killed(attempt: Callable[..., Attempt]) -> None:
    one = attempt("half", every_s=0.1)
    time.sleep(0.8)
    assert one.newest() == {}
    one.end(KILLED)
    assert one.newest() == {}


def test_the_last_state_counts_when_the_program_left_by_itself(attempt: Callable[..., Attempt]) -> None:
    one = attempt("whole", every_s=600.0)
    one.keeper.end_begins()
    one.end(CANCELLED)
    assert one.newest() == {"ckpt/state": "whole"}


@pytest.mark.parametrize(
    ("end", "is_taken"),
    [
        (KILLED, False),
        (End("failed", "", exit_code=1), False),
        (End("failed", "", exit_code=85), True),
        (End("timeout", "", exit_code=143), True),
        (End("done", "", exit_code=0), False),
    ],
)
def test_which_ends_leave_a_state_that_counts(attempt: Callable[..., Attempt], end: End, is_taken: bool) -> None:
    one = attempt("whole", every_s=600.0, resubmit_on=(85,))
    one.end(end)
    assert bool(one.newest()) is is_taken


def test_what_was_being_written_when_the_end_began_does_not_count(attempt: Callable[..., Attempt]) -> None:
    one = attempt("half", every_s=600.0)
    one.keeper.end_begins()
    one.end(CANCELLED)
    assert one.newest() == {}


def test_a_current_mark_counts_after_any_end(attempt: Callable[..., Attempt]) -> None:
    one = attempt("nothing", every_s=600.0)
    write(one.work, ckpt__one__a="1", ckpt__two__a="half", ckpt__CURRENT="one")
    one.end(KILLED)
    assert one.newest() == {"ckpt/CURRENT": "one", "ckpt/one/a": "1"}


@pytest.mark.parametrize(
    "mark",
    [
        ["racksack-checkpoint"],
        ["racksack", "checkpoint"],
        [sys.executable, "-S", "-c", "from racksack_checkpoint import checkpoint; checkpoint()"],
    ],
)
def test_a_mark_is_heeded_at_once_and_from_then_on_nothing_else(
    attempt: Callable[..., Attempt], mark: list[str]
) -> None:
    one = attempt("nothing", every_s=600.0)
    write(one.work, ckpt__a="1", ckpt__b="1")
    env = {**one.env, "PATH": one.folder.helpers + ":/usr/bin:/bin"}
    subprocess.run(mark, env=env, check=True, timeout=60)
    assert one.newest() == {"ckpt/a": "1", "ckpt/b": "1"}
    write(one.work, ckpt__a="2")
    one.keeper.end_begins()
    time.sleep(0.3)
    one.end(CANCELLED)
    assert one.newest() == {"ckpt/a": "1", "ckpt/b": "1"}, "only its marks say what is whole"
    assert list(Path(one.folder.checkpoint_marks).iterdir()) == []


def test_a_mark_that_was_not_heeded_before_the_end_still_is(attempt: Callable[..., Attempt]) -> None:
    one = attempt("nothing", every_s=600.0)
    one.keeper._closing.set()
    one.keeper._thread.join()
    write(one.work, ckpt__a="1")
    Path(one.folder.checkpoint_marks, "7").touch()
    one.end(KILLED)
    assert one.newest() == {"ckpt/a": "1"}


def test_files_that_have_not_changed_are_linked_and_old_checkpoints_go(attempt: Callable[..., Attempt]) -> None:
    one = attempt("nothing", every_s=0.1)
    write(one.work, ckpt__same="s" * 1000, ckpt__state="0")
    until(lambda: kept.numbers(one.folder) == [1], "the first")
    first = Path(kept.path_of(one.folder, 1), "ckpt/same").stat().st_ino
    assert (pinned := kept.pin(one.folder)) is not None
    assert pinned["number"] == 1
    for number in (2, 3, 4):
        write(one.work, ckpt__state=str(number))
        until(lambda number=number: number in kept.numbers(one.folder), f"number {number}")  # type: ignore[misc]
    until(lambda: kept.numbers(one.folder) == [1, 4], "the newest is left, and the one that is being brought away")
    assert Path(kept.path_of(one.folder, 4), "ckpt/same").stat().st_ino == first


def test_another_supervisor_goes_on_and_what_was_half_copied_goes(attempt: Callable[..., Attempt]) -> None:
    one = attempt("whole", every_s=0.1)
    until(one.newest, "a checkpoint")
    one.keeper._closing.set()
    one.keeper._thread.join()
    write(Path(one.folder.checkpoints), **{".unfinished__ckpt__state": "hal"})
    write(Path(kept.path_of(one.folder, 2)), ckpt__other="its record never came")
    one.keeper = one.keep()
    write(one.work, ckpt__state="whole again")
    until(lambda: one.newest() == {"ckpt/state": "whole again"}, "it goes on")
    until(lambda: kept.numbers(one.folder) == [2], "the one before goes")


def test_what_stands_in_the_way_is_told_after_a_while(attempt: Callable[..., Attempt]) -> None:
    one = attempt("half", every_s=0.1)
    until(lambda: "open for writing" in one.keeper._problem, "a problem")
    one.keeper.look()
    assert one.told == []
    one.keeper._problem_since_s -= 60.0
    one.keeper.look()
    assert one.told == [{"number": 0, "hurries": False, "problem": "ckpt/state is open for writing"}]


def test_the_next_attempt_finds_it_in_place_of_the_projects_own(tmp_path: Path) -> None:
    folder = AttemptFolder(str(tmp_path / "home/attempts/1.2"))
    write(tmp_path / "home/snapshots/d1", ckpt__state="saved", ckpt__deep__x="1")
    write(Path(folder.work), ckpt__state="of the project", ckpt__other="of the project", main="kept")
    order = {"checkpoint": {"paths": ["ckpt"], "every_s": 1.0, "digest": "d1", "resubmit_on": [], "saves": True}}
    resuming.provide(folder, order, StopRequest(os.devnull, Echo("", None)))
    found = {str(path.relative_to(folder.work)) for path in Path(folder.work).rglob("*") if path.is_file()}
    assert found == {"ckpt/state", "ckpt/deep/x", "main"}
    assert (Path(folder.work) / "ckpt/state").read_text() == "saved"
    (Path(folder.work) / "ckpt/state").write_text("can be written")
    env = resuming.variables(folder, order, {"PATH": "/bin", "PYTHONPATH": "/mine"})
    assert env["RACKSACK_RESUMED"] == "1"
    assert env["RACKSACK_CHECKPOINT_DIR"] == folder.work + "/ckpt"
    assert env["PYTHONPATH"] == f"/mine:{folder.helpers}"
    assert env["PATH"] == f"/bin:{folder.helpers}"


def test_a_mark_of_a_rank_that_does_not_save_is_passed_over(tmp_path: Path) -> None:
    """Of a gang rank 0 alone saves, and all ranks run the same program."""
    folder = AttemptFolder(str(tmp_path / "home/attempts/1.1@1"))
    Path(folder.work).mkdir(parents=True)
    order = {"checkpoint": {"paths": ["ckpt"], "every_s": 1.0, "digest": "", "resubmit_on": [], "saves": False}}
    resuming.provide(folder, order, StopRequest(os.devnull, Echo("", None)))
    env = {"PATH": os.environ["PATH"]}
    env.update(resuming.variables(folder, order, env))
    program = "from racksack_checkpoint import checkpoint; checkpoint()"
    for argv in (["racksack-checkpoint"], [sys.executable, "-S", "-c", program]):
        subprocess.run(argv, env=env, check=True, timeout=60)


def test_a_fault_of_ours_does_not_make_the_program_wait(
    attempt: Callable[..., Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = attempt("nothing", every_s=600.0)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr(taking, "take", broken)
    write(one.work, ckpt__a="1")
    env = {**one.env, "PATH": one.folder.helpers + ":/usr/bin:/bin"}
    subprocess.run(["racksack-checkpoint"], env=env, check=True, timeout=60)
    assert "ZeroDivisionError" in one.keeper._problem
    monkeypatch.undo()
    subprocess.run(["racksack-checkpoint"], env=env, check=True, timeout=60)
    assert one.newest() == {"ckpt/a": "1"}


def test_records_survive_as_json(attempt: Callable[..., Attempt]) -> None:
    one = attempt("whole", every_s=0.1)
    until(one.newest, "a checkpoint")
    record = json.loads(Path(one.folder.checkpoints, "1.json").read_text())
    assert set(record) == {"number", "digest", "files", "bytes", "taken_at_s", "by_mark", "versions"}
