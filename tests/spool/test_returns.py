"""Whose a return folder is: of this very job and attempt, or moved aside."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from racksack_controller import returns
from racksack_controller.checks.spool import look_at_spool
from racksack_controller.core.state import Allocation, Attempt, Job
from racksack_controller.intake.ids import highest_id
from racksack_controller.store import open_database
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.states import JobState
from tests.core import builders

OURS = builders.job(6, key="ours", attempt=1, state=JobState.DONE)


def attempt(number: int = 1, epoch: str = "e1") -> Attempt:
    return Attempt(
        job=6, number=number, node="n1", state=JobState.COLLECTING, allocation=Allocation(1.0, 1), placed_at_s=0.0,
        epoch=epoch,
    )  # fmt: skip


def place(spool: Spool, job: Job, one: Attempt, text: str) -> None:
    folder = returns.begin(spool, one.key, one.epoch)
    assert folder is not None
    (folder / "out").write_text(text)
    returns.complete(spool, job, one, "")


def make(path: Path) -> Spool:
    spool = Spool(path)
    spool.returns.mkdir()
    spool.projects.mkdir()
    return spool


def test_a_folder_of_another_job_with_this_number_is_moved_aside(tmp_path: Path) -> None:
    spool = make(tmp_path)
    place(spool, replace(OURS, key="theirs"), attempt(), "theirs")
    assert not returns.already_placed(spool, OURS, attempt())
    place(spool, OURS, attempt(), "ours")
    assert (spool.returned(6) / "out").read_text() == "ours"
    assert not (spool.returned(6) / "attempts").exists()
    [aside] = spool.returns.glob("6.aside-*")
    assert (aside / "out").read_text() == "theirs"


def test_a_number_given_out_again_to_an_attempt_is_another_attempt(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for epoch in ("e1", "e2", "e3"):
        assert not returns.already_placed(spool, OURS, attempt(epoch=epoch))
        place(spool, OURS, attempt(epoch=epoch), epoch)
        assert returns.already_placed(spool, OURS, attempt(epoch=epoch))
    assert (spool.returned(6) / "out").read_text() == "e3"
    kept = {path.read_text() for path in (spool.returned(6) / "attempts").glob("1*/out")}
    assert kept == {"e1", "e2"}


def test_a_pull_goes_on_in_its_own_folder_alone(tmp_path: Path) -> None:
    spool = make(tmp_path)
    first = returns.begin(spool, "6.1", "e1")
    assert first is not None
    (first / "half").touch()
    assert returns.begin(spool, "6.1", "e1") == first
    assert (first / "half").exists()
    assert returns.begin(spool, "6.1", "e2") == first
    assert not (first / "half").exists()
    returns.remove_stale(spool, {"6.1"})
    assert first.is_dir()
    returns.remove_stale(spool, set())
    assert list(spool.returns.iterdir()) == []


def test_every_job_that_ended_has_a_folder_that_says_what_the_store_says(tmp_path: Path) -> None:
    spool = make(tmp_path)
    place(spool, OURS, attempt(), "ours")
    returns.ensure_returned(spool, [replace(OURS, state=JobState.CANCELLED, reason="cancelled by ann")])
    result = json.loads((spool.returned(6) / "result.json").read_text())
    assert (result["state"], result["reason"], result["key"]) == ("cancelled", "cancelled by ann", "ours")
    assert (spool.returned(6) / "out").read_text() == "ours"
    returns.ensure_returned(spool, [builders.job(7, key="k", state=JobState.STAGE_FAILED)])
    assert json.loads((spool.returned(7) / "result.json").read_text())["state"] == "stage_failed"


def test_ids_begin_above_all_that_left_something_in_the_spool(tmp_path: Path) -> None:
    spool = make(tmp_path)
    assert highest_id(spool) == 0
    for name in ("12", "40.aside-ab12", ".receiving-99.1", "notes"):
        (spool.returns / name).mkdir()
    (spool.projects / "31").symlink_to("nowhere")
    assert highest_id(spool) == 40


def test_a_store_that_is_older_than_its_returns_is_told(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for folder in (spool.incoming, spool.jobs, spool.snapshots):
        folder.mkdir()
    open_database(spool.database).close()
    assert [one for one in look_at_spool(spool) if one.what == "returns"] == []
    spool.returned(7).mkdir()
    (spool.returns / "5.aside-ab12").mkdir()
    older, aside = [one.sentence for one in look_at_spool(spool) if one.what == "returns"]
    assert "the store ends with id 0, and returns/ with 7" in older
    assert "5.aside-ab12" in aside


def test_the_result_of_an_arrays_job_has_its_index() -> None:
    element = builders.job(12, state=JobState.DONE, array_id=11, array_index=6)
    result = returns.result_of(element, None)
    assert (result["array_id"], result["array_index"]) == (11, 6)


def test_a_job_that_is_cancelled_before_its_next_attempt_has_results_keeps_those_of_the_one_before(
    spool: Spool,
) -> None:
    earlier = spool.returned(OURS.id)
    earlier.mkdir(parents=True)
    (earlier / "partial.txt").write_text("so far")
    returns.write_result(earlier, {**returns.result_of(OURS, None), "attempt": 1, "state": "lost"})
    ended = replace(OURS, state=JobState.CANCELLED, reason="cancelled by ann", attempt=2)
    for _ in range(2):
        returns.ensure_returned(spool, [ended])
        result = returns.read_result(spool.returned(OURS.id))
        assert (result["attempt"], result["state"]) == (2, "cancelled")
        assert (spool.returned(OURS.id) / "attempts/1/partial.txt").read_text() == "so far"
