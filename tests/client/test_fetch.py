"""`fetch-results`: what comes, where to, and what is never done to local files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn

from racksack.fetching import PARTIAL, folder_name
from racksack.result_folder import MARK
from racksack.views import JobView


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def finished(controller: StandIn, name: str = "train", state: str = "done", **files: bytes) -> int:
    number = controller.add_job(name, "running")
    controller.finish(number, state, {key.replace("__", "/").replace("_", "."): value for key, value in files.items()})
    return number


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != MARK]


def run_again(controller: StandIn, number: int, attempt: int, **files: bytes) -> None:
    """The next attempt of a job, with other results."""
    shutil.rmtree(controller.spool / "returns" / str(number))
    controller.jobs[number] |= {"state": "running", "fetched": False}
    controller.finish(number, "done", {key.replace("_", "."): value for key, value in files.items()}, attempt=attempt)


def test_every_finished_job_comes_once(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, model_bin=b"m" * 1000, deep__er__x_txt=b"x")
    finished(controller, "bad", "failed")
    controller.add_job("still", "running")
    ended = cli("fetch-results")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0] == "1 train done: 4 files 1003B -> results/1-train/"
    assert ended.out.splitlines()[-1] == "2 jobs, 6 files, 1005B in results/"
    assert (here / "results/1-train/model.bin").read_bytes() == b"m" * 1000
    assert (here / "results/1-train/deep/er/x.txt").exists()
    assert sorted(names(here / "results")) == ["1-train", "2-bad"]
    assert controller.jobs[1]["fetched"]
    again = cli("fetch-results")
    assert (again.code, again.out) == (0, "nothing new\n")


def test_a_job_that_has_not_ended_is_not_fetched(cli: Cli, controller: StandIn, here: Path) -> None:
    controller.add_job("still", "running")
    ended = cli("fetch-results", "1")
    assert "still) is running" in ended.err
    assert ended.out == "nothing new\n"


def test_changed_local_files_stay(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, a_txt=b"from the job", b_txt=b"same")
    assert cli("fetch-results").code == 0
    (here / "results/1-train/a.txt").write_text("mine now")
    (here / "results/1-train/own.txt").write_text("mine")
    ended = cli("fetch-results", "1")
    assert ended.code == 5
    assert "1 file in results/1-train changed here and kept, such as a.txt" in ended.err
    assert (here / "results/1-train/a.txt").read_text() == "mine now"
    assert cli("fetch-results", "1", "--keep-both").code == 0
    assert (here / "results/1-train/a~1.txt").read_text() == "from the job"
    assert cli("fetch-results", "1", "--overwrite").code == 0
    assert (here / "results/1-train/a.txt").read_text() == "from the job"
    assert (here / "results/1-train/own.txt").read_text() == "mine"


def test_a_conflict_leaves_the_job_unfetched(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, a_txt=b"job")
    assert cli("fetch-results").code == 0
    controller.jobs[1]["fetched"] = False
    (here / "results/1-train/a.txt").write_text("mine")
    assert cli("fetch-results").code == 5
    assert not controller.jobs[1].get("fetched")


def test_copies_beside_are_not_made_twice(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, a_txt=b"job")
    assert cli("fetch-results").code == 0
    (here / "results/1-train/a.txt").write_text("mine")
    for _ in range(3):
        assert cli("fetch-results", "1", "--keep-both").code == 0
    assert sorted(names(here / "results/1-train")) == ["a.txt", "a~1.txt", "result.json", "stdout.log"]


def test_a_later_attempt_goes_beside_an_earlier_one(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, only1_txt=b"1", model_txt=b"first")
    controller.jobs[1]["attempt"] = 1
    assert cli("fetch-results").code == 0
    run_again(controller, 1, 2, only2_txt=b"2", model_txt=b"second")
    ended = cli("fetch-results")
    assert ended.code == 0, ended.err
    assert "-> results/1-train.attempt2/" in ended.out
    assert sorted(names(here / "results/1-train")) == ["model.txt", "only1.txt", "result.json", "stdout.log"]
    assert sorted(names(here / "results/1-train.attempt2")) == ["model.txt", "only2.txt", "result.json", "stdout.log"]
    assert (here / "results/1-train/model.txt").read_text() == "first"
    assert cli("fetch-results", "1").code == 0, "the same attempt again goes where it is"
    assert sorted(names(here / "results")) == ["1-train", "1-train.attempt2"]


def test_overwrite_leaves_nothing_of_an_earlier_attempt(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, only1_txt=b"1", model_txt=b"first", old__deep_txt=b"x")
    controller.jobs[1]["attempt"] = 1
    assert cli("fetch-results").code == 0
    (here / "results/1-train/notes.txt").write_text("mine")
    run_again(controller, 1, 2, only2_txt=b"2", model_txt=b"second")
    assert cli("fetch-results", "--overwrite").code == 0
    folder = here / "results/1-train"
    assert sorted(names(folder)) == ["model.txt", "notes.txt", "only2.txt", "result.json", "stdout.log"]
    assert (folder / "model.txt").read_text() == "second"
    assert names(here / "results") == ["1-train"]


@pytest.mark.parametrize("how", [(), ("--overwrite",), ("--keep-both",)])
def test_jobs_of_two_controllers_never_share_a_folder(
    cli: Cli, controller: StandIn, here: Path, how: tuple[str, ...]
) -> None:
    finished(controller, mine_txt=b"1")
    assert cli("fetch-results").code == 0
    run_again(controller, 1, 1, other_txt=b"2")
    controller.jobs[1]["submitted_at_s"] += 5000  # another job of the same number and name
    assert cli("fetch-results", *how).code == 0
    assert sorted(names(here / "results/1-train")) == ["mine.txt", "result.json", "stdout.log"]
    assert sorted(names(here / "results/1-train.2")) == ["other.txt", "result.json", "stdout.log"]


def test_a_folder_that_no_fetch_made_is_left_alone(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, a_txt=b"job")
    (here / "results/1-train").mkdir(parents=True)
    (here / "results/1-train/a.txt").write_text("mine")
    assert cli("fetch-results").code == 0
    assert names(here / "results/1-train") == ["a.txt"]
    assert (here / "results/1-train.2/a.txt").read_text() == "job"


def test_results_of_another_job_of_that_number_are_refused(cli: Cli, controller: StandIn, here: Path) -> None:
    """As after a store was restored from a copy, with `returns/` newer than it."""
    told = {"job": 1, "submitted_at_s": 1.0, "attempt": 1}
    number = controller.add_job("train", "running")
    controller.finish(number, "done", {"result.json": json.dumps(told).encode()})
    ended = cli("fetch-results")
    assert ended.code == 7
    assert "folder 1 holds the results of another job" in ended.err
    assert not (here / "results/1-train").exists()
    assert not controller.jobs[1].get("fetched")


def test_what_a_broken_transfer_left_of_another_attempt_is_not_used(cli: Cli, controller: StandIn, here: Path) -> None:
    """Neither rsync's temporary files nor files of the attempt before, nor content that only looks the same."""
    finished(controller, a_txt=b"new", b_txt=b"b")
    beside = here / "results" / PARTIAL / "1"
    beside.mkdir(parents=True)
    (beside / "stale.txt").write_text("of another attempt")
    assert cli("fetch-results").code == 0
    assert sorted(names(here / "results/1-train")) == ["a.txt", "b.txt", "result.json", "stdout.log"]


def test_what_a_broken_transfer_left_is_compared_by_content(
    cli: Cli, controller: StandIn, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(controller, a_txt=b"right", deep__b_txt=b"b")
    with monkeypatch.context() as patch:
        patch.setattr("racksack.fetching.place", _no_space)
        assert cli("fetch-results").code == 7
    beside = here / "results" / PARTIAL / "1"
    source = controller.spool / "returns/1/a.txt"
    (beside / "a.txt").write_text("wrong")
    os.utime(beside / "a.txt", ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    (beside / "deep/.b.txt.KZUYuW").write_text("left by an rsync that was killed")
    assert cli("fetch-results").code == 0
    assert (here / "results/1-train/a.txt").read_text() == "right"
    assert names(here / "results/1-train/deep") == ["b.txt"]


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device", "results")


def test_jobs_that_never_began_bring_no_folders(cli: Cli, controller: StandIn, here: Path) -> None:
    number = controller.add_job("train", "running")
    controller.finish(number, "cancelled", attempt=0)
    assert cli("fetch-results").out == "nothing new\n"
    assert cli("fetch-results", str(number)).code == 0
    assert (here / "results/1-train/result.json").exists()


def test_links_that_lead_out_are_not_brought(cli: Cli, controller: StandIn, here: Path) -> None:
    number = controller.add_job("evil", "running")
    folder = controller.finish(number, "done", {"sub/real.txt": b"r"})
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("../../../..")
    (folder / "fine").symlink_to("sub/real.txt")
    os.mkfifo(folder / "pipe")
    ended = cli("fetch-results", "--json")
    assert ended.code == 0, ended.err
    brought = here / "results/1-evil"
    assert not os.path.lexists(brought / "passwd")
    assert not os.path.lexists(brought / "up")
    assert not os.path.lexists(brought / "pipe")
    assert (brought / "fine").readlink() == Path("sub/real.txt")


def test_a_local_link_is_not_written_through(cli: Cli, controller: StandIn, here: Path, tmp_path: Path) -> None:
    finished(controller, a_txt=b"job")
    outside = tmp_path / "outside"
    outside.mkdir()
    (here / "results").mkdir()
    (here / "results/1-train").symlink_to(outside)
    ended = cli("fetch-results")
    assert ended.code == 7
    assert "is in the way" in ended.err
    assert not list(outside.iterdir())


def test_only_logs_and_patterns_leave_the_job_unfetched(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, model_bin=b"m", sub__stdout_log=b"decoy")
    assert cli("fetch-results", "--only-logs").code == 0
    assert sorted(names(here / "results/1-train")) == ["result.json", "stdout.log"]
    assert not controller.jobs[1].get("fetched")
    assert cli("fetch-results", "--include", "*.bin").code == 0
    assert (here / "results/1-train/model.bin").exists()


def test_names_are_made_safe(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, "../../x $(boom)\n")
    assert cli("fetch-results").code == 0
    assert names(here / "results") == ["1-x_boom"]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("a b", "7-a_b"),
        ("..", "7"),
        ("é", "7-é"),
        ("模型 🚀 e\u0301", "7-模型_é"),
        ("-rf", "7-rf"),
        ("x" * 99, "7-" + "x" * 60),
    ],
)
def test_folder_names(name: str, folder: str) -> None:
    assert folder_name(JobView(id=7, name=name)) == folder


def test_one_unreadable_folder_does_not_hold_back_the_others(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller, "gone")
    finished(controller, "good")
    (controller.spool / "returns/1").rename(controller.spool / "elsewhere")
    ended = cli("fetch-results")
    assert ended.code == 8
    assert "1 gone done: the transfer is not complete: some files could not be copied" in ended.err
    assert (here / "results/2-good/result.json").exists()
    assert not controller.jobs[1].get("fetched")


def test_a_broken_transfer_goes_on_where_it_stopped(
    cli: Cli, controller: StandIn, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An rsync that dies half-way leaves nothing that looks like a result, and the next one finishes."""
    finished(controller, one_bin=os.urandom(3_000_000))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "rsync").write_text(
        '#!/bin/sh\nexec /usr/bin/rsync --bwlimit=500 --timeout=1 "$@" & sleep 1; kill $!; exit 20\n'
    )
    (bin_folder / "rsync").chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
        broken = cli("fetch-results")
    assert broken.code == 7
    assert "repeat the command" in broken.err
    assert not (here / "results/1-train").exists()
    assert (here / "results" / PARTIAL).is_dir()
    assert cli("fetch-results").code == 0
    assert (here / "results/1-train/one.bin").read_bytes() == (controller.spool / "returns/1/one.bin").read_bytes()
    assert not (here / "results" / PARTIAL).exists()


def test_delete_after_tells_the_controller(cli: Cli, controller: StandIn, here: Path) -> None:
    finished(controller)
    facts = cli("fetch-results", "--delete-after", "--json").json
    assert controller.posted == [("jobs/1/fetched", {"delete": True})]
    assert facts[0]["folder"] == str(here / "results/1-train")
    assert json.loads((here / "results/1-train/result.json").read_text()) == {}


def test_watch_ends_when_nothing_is_left(cli: Cli, controller: StandIn, here: Path) -> None:
    import threading

    controller.add_job("slow", "running")
    timer = threading.Timer(0.3, lambda: controller.finish(1))
    timer.start()
    assert cli("fetch-results", "--watch").code == 0
    timer.join()
    assert (here / "results/1-slow/result.json").exists()
