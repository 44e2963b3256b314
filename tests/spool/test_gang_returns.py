"""The folders of a gang's ranks become one return folder, wherever the controller is killed on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from racksack_controller import returns
from racksack_controller.core.records import Allocation, Attempt, Ending, Job
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState

JOB = Job(
    id=7,
    owner="root",
    spec=JobSpec(name="g", project="p", entrypoint="main.py", gang=3),
    snapshot="0" * 64,
    submitted_at_s=1.0,
    state=JobState.COLLECTING,
    attempt=2,
)


class KilledError(Exception):
    """The controller ends here."""


def rank(number: int, outcome: JobState = JobState.DONE, **changes: object) -> Attempt:
    ending = Ending(outcome=outcome, exit_code=0, cpu_s=1.5, ram_peak_bytes=number, output_files=1, output_bytes=2)
    values = {"state": JobState.COLLECTING, "ending": ending, "collected": True, **changes}
    return Attempt(
        job=7, number=2, rank=number, ranks=3, node=f"n{number}", allocation=Allocation(1.0, 1), placed_at_s=1.0,
        **values,
    )  # fmt: skip


def receive(spool: Spool, one: Attempt, **files: str) -> str:
    folder = returns.begin(spool, one.key, one.epoch)
    assert folder is not None
    for name, text in files.items():
        path = folder / name.replace("__", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return returns.keep_rank(spool, one)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path)
    spool.returns.mkdir(parents=True)
    earlier = spool.returned(7)
    earlier.mkdir()
    (earlier / "result.json").write_text('{"attempt": 1, "key": ""}')
    return spool


@pytest.mark.parametrize("moves", range(9))
def test_cut_short_anywhere_it_is_whole_in_the_end(spool: Spool, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    ranks = [rank(0), rank(1), rank(2)]
    for one in ranks:
        receive(spool, one, out=f"of {one.rank}")
        assert returns.begin(spool, one.key, one.epoch) is None, "what has come is not fetched again"
    real, done = Path.rename, [0]

    def rename(self: Path, target: Path) -> Path:
        done[0] += 1
        if done[0] > moves:
            raise KilledError
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        try:
            returns.assemble(spool, JOB, ranks)
            assert done[0] == 7, "all moves were made; there is no later place to be killed at"
        except KilledError:
            assert not (spool.returned(7) / "rank-1").exists(), "never in part"
    returns.remove_stale(spool, {one.key for one in ranks})
    if not returns.already_placed(spool, JOB, ranks[0]):
        returns.assemble(spool, JOB, ranks)
    final = spool.returned(7)
    texts = [(final / name / "out").read_text() for name in (".", "rank-1", "rank-2")]
    assert texts == ["of 0", "of 1", "of 2"]
    result = json.loads((final / "result.json").read_text())
    assert (result["state"], result["attempt"], result["cpu_s"], result["ram_peak_bytes"]) == ("done", 2, 4.5, 2)
    assert [one["folder"] for one in result["ranks"]] == [".", "rank-1", "rank-2"]
    assert json.loads((final / "attempts/1/result.json").read_text()) == {"attempt": 1, "key": ""}
    assert [entry.name for entry in spool.returns.iterdir()] == ["7"]


def test_a_lost_rank_has_no_folder_and_what_the_job_wrote_under_our_names_is_kept(spool: Spool) -> None:
    sentence = "n0 has not answered for 600 s"
    lost = replace(rank(0), state=JobState.LOST, ending=None, collected=False, problem=sentence)
    second = rank(1, JobState.CANCELLED)
    receive(spool, second, out="of 1")
    receive(spool, rank(2, JobState.CANCELLED), out="of 2")
    returns.assemble(spool, JOB, [lost, second, rank(2, JobState.CANCELLED)])
    result = json.loads((spool.returned(7) / "result.json").read_text())
    assert (result["state"], result["reason"]) == ("lost", f"rank 0 on n0: {sentence}")
    assert [one["folder"] for one in result["ranks"]] == [None, "rank-1", "rank-2"]
    assert (spool.returned(7) / "rank-1/out").read_text() == "of 1"

    first = replace(rank(0), number=3)
    note = receive(spool, first, rank__1="mine", attempts="mine too")
    assert note == "the job's own attempts is kept as attempts.job; the job's own rank-1 is kept as rank-1.job"
    returns.assemble(spool, replace(JOB, attempt=3), [first, replace(lost, rank=1, number=3)])
    assert (spool.returned(7) / "rank-1.job").read_text() == "mine"
