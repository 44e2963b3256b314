"""When checkpoints are brought to the controller, and what a job goes on from."""

from __future__ import annotations

from typing import Any

from racksack_controller.core import events as ev
from racksack_controller.core.actions import BringCheckpoint
from racksack_controller.core.decide import decide, next_wake_s
from racksack_controller.core.placing.preempt import preemptions
from racksack_controller.core.policy import Policy
from racksack_controller.core.records import Checkpoint
from racksack_controller.core.report import SavedReport
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report, request

D1, D2, D3 = ("1" * 64, "2" * 64, "3" * 64)


def saved(number: int, digest: str, **changes: Any) -> SavedReport:
    return SavedReport(number=number, digest=digest, files=1, bytes=5, taken_at_s=1.0, **changes)


def brought(number: int, digest: str, attempt: int = 1) -> ev.CheckpointBrought:
    one = Checkpoint(number=number, digest=digest, files=1, bytes=5, taken_at_s=1.0, attempt=attempt)
    return ev.CheckpointBrought(f"1.{attempt}", one)


def bench(**changes: Any) -> Bench:
    made = Bench(node("n1"), node("n2"))
    made.submit(job(1, checkpoint=("ckpt",), checkpoint_every_s=600.0, **changes))
    made.run(1)
    return made


def reported(made: Bench, **changes: Any) -> None:
    made.happen(ev.Reported(made.state.attempts["1.1"].node, report("1.1", "running", **changes)))


def asked(made: Bench) -> bool:
    return any(isinstance(action, BringCheckpoint) for action in decide(made.state, made.now))


def digests(made: Bench) -> list[str]:
    return [one.digest for one in made.state.jobs[1].checkpoints]


def test_the_first_is_brought_at_once_and_further_ones_once_in_the_interval() -> None:
    made = bench()
    reported(made, checkpoint=saved(1, D1))
    assert asked(made)
    made.happen(brought(1, D1))
    assert digests(made) == [D1]
    reported(made, checkpoint=saved(2, D2))
    assert not asked(made)
    due_s = next_wake_s(made.state, made.now, 300.0)
    assert due_s is not None
    assert 590 < due_s - made.now <= 600
    made.now += 600.0
    assert asked(made)
    made.happen(brought(2, D2))
    reported(made, checkpoint=saved(3, D3, hurries=True))
    assert asked(made), "the program was warned"
    made.happen(brought(3, D3))
    assert digests(made) == [D2, D3], "the one before is kept, too"


def test_one_with_the_same_content_is_not_brought_again() -> None:
    made = bench()
    reported(made, checkpoint=saved(1, D1))
    made.happen(brought(1, D1))
    made.now += 700.0
    reported(made, checkpoint=saved(2, D1))
    assert not asked(made)
    assert digests(made) == [D1]


def test_a_failure_is_tried_again_later_and_told_once() -> None:
    made = bench()
    reported(made, checkpoint=saved(1, D1))
    for _ in range(3):
        made.happen(ev.CheckpointFailed("1.1", "the disk is full"))
        assert not asked(made)
        made.now += 301.0
        assert asked(made)
    told = [sentence for _, _, _, sentence in made.state.changes().events]
    assert sum("checkpoint could not be copied: the disk is full" in sentence for sentence in told) == 1


def test_news_of_an_earlier_attempt_change_nothing() -> None:
    made = bench()
    reported(made, checkpoint=saved(1, D1))
    made.happen(brought(1, D1))
    on = made.state.attempts["1.1"].node
    made.happen(ev.Reported(on, report("1.1", "ended", outcome="lost")), ev.Collected("1.1"))
    made.now += 60.0
    assert [placed.job for placed in made.place()] == [1]
    made.happen(brought(2, D2, attempt=1))
    assert digests(made) == [D1]


def test_a_damaged_one_leaves_the_one_before() -> None:
    made = bench()
    made.happen(brought(1, D1), brought(2, D2), ev.CheckpointDamaged(1, D2))
    assert digests(made) == [D1]
    made.happen(ev.CheckpointDamaged(1, D1), ev.CheckpointDamaged(99, D1))
    assert digests(made) == []


def test_a_retry_begins_anew_unless_it_is_to_go_on() -> None:
    for goes_on, left in ((False, []), (True, [D1])):
        made = bench()
        made.happen(brought(1, D1), ev.CancelRequested(1, "cancelled"))
        on = made.state.attempts["1.1"].node
        made.happen(ev.Reported(on, report("1.1", "ended", outcome="cancelled")), ev.Collected("1.1"))
        record = made.state.jobs[1]
        assert record.state is JobState.CANCELLED
        made.happen(ev.RetryRequested(1, record, from_checkpoint=goes_on))
        assert digests(made) == left


def test_a_job_that_saves_nothing_is_never_asked() -> None:
    made = Bench(node("n1"))
    made.submit(job(1))
    made.run(1)
    reported(made, checkpoint=saved(1, D1))
    assert not asked(made)


def test_who_has_just_saved_makes_room() -> None:
    """Two jobs that began together: the one whose last checkpoint is younger loses less."""
    made = Bench(node("n1"))
    made.submit(*(job(number, request(4), preemptible=True, checkpoint=("ckpt",)) for number in (1, 2)))
    made.run(1)
    made.run(2)
    made.now += 5000.0
    made.happen(ev.Reported("n1", report("1.1", "running", checkpoint=saved(1, D1))))
    late = SavedReport(number=1, digest=D2, taken_at_s=made.now)
    made.happen(ev.Reported("n1", report("2.1", "running", checkpoint=late)))
    made.submit(job(3, request(4), priority=10))
    policy = Policy(preempt=True)
    assert made.place(policy) == []
    assert [event.job for event in preemptions(made.state, made.now, policy, made.memory.reservation)] == [2]
