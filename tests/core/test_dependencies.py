"""What jobs wait for: one meaning for each word, whenever the other one ends and however it is named."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from racksack_controller.core import events as ev
from racksack_controller.core.decide import next_wake_s
from racksack_controller.core.jobs.dependencies import JUDGED_MAX, waits_sentence
from racksack_controller.core.records import Job, Past, Wait
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report

QUEUED, CANCELLED, DONE, FAILED = JobState.QUEUED, JobState.CANCELLED, JobState.DONE, JobState.FAILED
ARRAY = 10


def elements(count: int = 3) -> list[Job]:
    return [job(ARRAY + index, array_id=ARRAY, array_index=index, name="train") for index in range(count)]


def end(bench: Bench, number: int, outcome: str = "done") -> None:
    """Run a job to its end."""
    while number not in [placed.job for placed in bench.place()] and bench.state.jobs[number].state is QUEUED:
        bench.now += 1.0
    key = bench.state.jobs[number].attempt_key
    epoch = bench.state.attempts[key].epoch
    ended = report(key, "ended", outcome=outcome, epoch=epoch)
    bench.happen(ev.Launched(key), ev.Reported("n1", ended), ev.Collected(key), ev.Removed("n1", key))


def verdict(bench: Bench, number: int) -> str:
    found = bench.state.jobs[number]
    return "waits" if found.waits_for and found.state is QUEUED else str(found.state)


@pytest.mark.parametrize(("outcome", "condition", "expected"), [
    ("done", "ok", "queued"), ("failed", "ok", "cancelled"), ("lost", "ok", "cancelled"),
    ("done", "any", "queued"), ("failed", "any", "queued"),
    ("done", "notok", "cancelled"), ("failed", "notok", "queued"), ("timeout", "notok", "queued"),
])  # fmt: skip
@pytest.mark.parametrize("when", ["before", "in the step", "in memory no more"])
def test_a_job_after_another_whenever_that_ends(outcome: str, condition: str, expected: str, when: str) -> None:
    bench = Bench(node())
    bench.submit(job(1))
    second = job(2, after=(Wait(1, condition),))
    if when == "before":
        bench.submit(second)
        assert verdict(bench, 2) == "waits"
    bench.place()
    bench.state.put_job(ended := finished(bench.state.jobs[1], outcome))
    if when == "before":
        bench.happen(ev.DependencyEnded(((1, False),)))
    if when == "in memory no more":
        bench.state.take_changes()
        assert 1 not in bench.state.jobs
    past = (Past(1, False, ended.state),) if when == "in memory no more" else ()
    if when != "before":
        bench.happen(ev.JobAccepted(second, past))
    assert verdict(bench, 2) == expected
    if expected == "cancelled":
        assert bench.state.jobs[2].reason == (
            f"its dependency can never be met: job 1, which it waits for, ended as {outcome} (after{condition})"
        )


def finished(one: Job, outcome: str) -> Job:
    return replace(one, state=JobState(outcome), ended_at_s=1.0)


@pytest.mark.parametrize(("outcomes", "condition", "steps"), [
    (("done", "done", "done"), "ok", ("waits", "waits", "queued")),
    (("done", "failed", "done"), "ok", ("waits", "cancelled", "cancelled")),
    (("failed", "done", "done"), "any", ("waits", "waits", "queued")),
    (("failed", "done", "done"), "notok", ("waits", "waits", "queued")),
    (("done", "done", "done"), "notok", ("waits", "waits", "cancelled")),
])  # fmt: skip
def test_a_job_after_an_array_waits_for_all_of_it(
    outcomes: tuple[str, ...], condition: str, steps: tuple[str, ...]
) -> None:
    bench = Bench(node())
    bench.submit(*elements(), job(20, after=(Wait(ARRAY, condition, True),)))
    for index, (outcome, expected) in enumerate(zip(outcomes, steps, strict=True)):
        end(bench, ARRAY + index, outcome)
        assert verdict(bench, 20) == expected
        if expected == "cancelled":
            break
        bench.state.take_changes()  # what has ended leaves memory, as after each step


def test_a_job_that_comes_while_an_array_runs_counts_the_elements_that_are_over() -> None:
    bench = Bench(node())
    bench.submit(*elements())
    end(bench, ARRAY + 1, "failed")
    bench.state.take_changes()
    bench.submit(job(20, after=(Wait(ARRAY, "ok", True),)), job(21, after=(Wait(ARRAY, "notok", True),)))
    assert verdict(bench, 20) == "cancelled"
    assert "job 11 of array 10, which it waits for, ended as failed" in bench.state.jobs[20].reason
    assert verdict(bench, 21) == "waits"
    end(bench, ARRAY)
    end(bench, ARRAY + 2)
    assert verdict(bench, 21) == "queued"


def test_one_element_and_the_whole_array_are_two_things() -> None:
    bench = Bench(node())
    bench.submit(*elements(), job(20, after=(Wait(ARRAY, "ok"),)), job(21, after=(Wait(ARRAY, "ok", True),)))
    end(bench, ARRAY)
    assert (verdict(bench, 20), verdict(bench, 21)) == ("queued", "waits")
    assert waits_sentence(bench.state, bench.state.jobs[21]) == "after array 10 is done (2 of its elements to go)"


def test_a_chain_behind_a_failure_ends_with_it() -> None:
    bench = Bench(node())
    bench.submit(*(job(number, after=(Wait(number - 1),) if number > 1 else ()) for number in range(1, 2001)))
    end(bench, 1, "failed")
    assert {one.state for one in bench.state.jobs.values()} == {FAILED, CANCELLED, QUEUED}, "so many in one go"
    reasons = ended_in_parts(bench)
    assert bench.state.jobs == {}
    assert "job 1999, which it waits for, ended as cancelled" in reasons[2000]


def ended_in_parts(bench: Bench) -> dict[int, str]:
    """Go on as later steps do, which save what has changed and let what has ended leave memory; the reasons."""
    reasons = {one.id: one.reason for one in bench.state.take_changes().jobs}
    while bench.state.unsettled:
        assert next_wake_s(bench.state, 5.0, 300.0) == 5.0, "the next step comes at once"
        bench.happen(ev.DependencyEnded(()))
        changed = bench.state.take_changes().jobs
        assert len(changed) <= JUDGED_MAX + 1
        reasons |= {one.id: one.reason for one in changed}
    return reasons


@pytest.mark.parametrize("condition", ["ok", "any", "notok"])
@pytest.mark.parametrize("whole", [False, True])
def test_many_behind_one_are_judged_in_parts(condition: str, whole: bool) -> None:
    """Also those behind an array with a failed element, of which one runs on."""
    bench = Bench(node())
    bench.submit(*elements())
    count = 2 * JUDGED_MAX + 10
    bench.submit(*(job(100 + number, after=(Wait(ARRAY, condition, whole),)) for number in range(count)))
    end(bench, ARRAY, "failed")
    ended_in_parts(bench)
    waiting = [one for one in bench.state.jobs.values() if one.id >= 100 and one.waits_for]
    if condition == "ok":
        assert not [one for one in bench.state.jobs.values() if one.id >= 100], "all are cancelled"
    elif not whole:
        assert waiting == []
    else:
        assert len(waiting) == count
        end(bench, ARRAY + 1)
        end(bench, ARRAY + 2)
        ended_in_parts(bench)
        assert not [one for one in bench.state.jobs.values() if one.waits_for]


def test_a_start_judges_what_a_step_had_left() -> None:
    """The controller ended between two parts; the array's other dependents are still asked when it ends."""
    bench = Bench(node())
    bench.submit(*elements(), *(job(100 + number, after=(Wait(ARRAY, "any", True),)) for number in range(3)))
    end(bench, ARRAY, "failed")
    bench.state.take_changes()
    past = (Past(ARRAY, True, FAILED, f"{ARRAY}[0]"),)  # as the store says of it
    bench.happen(ev.DependencyEnded(((ARRAY, True),), past))
    assert verdict(bench, 100) == "waits"
    end(bench, ARRAY + 1)
    end(bench, ARRAY + 2)
    assert verdict(bench, 100) == "queued"


def test_held_jobs_end_with_their_dependency_too() -> None:
    bench = Bench(node())
    bench.submit(job(1), job(2, after=(Wait(1),), state=JobState.HELD))
    end(bench, 1, "failed")
    assert verdict(bench, 2) == "cancelled"


def test_a_singleton_waits_for_all_of_its_name_and_an_array_is_one_job() -> None:
    bench = Bench(node())
    single = Wait(0, "singleton")
    bench.submit(job(1, name="train"), job(2, name="other"), job(3, name="train", owner="bob"), *elements())
    late = [
        job(30 + index, name="train", array_id=30, array_index=index, array=None, after=(single,)) for index in range(2)
    ]
    bench.submit(*late, job(40, name="train", after=(single,)))
    assert set(bench.state.jobs[30].waits_for) == {Wait(1, "any"), Wait(ARRAY, "any", True)}
    assert bench.state.jobs[31].waits_for == bench.state.jobs[30].waits_for
    assert set(bench.state.jobs[40].waits_for) == {Wait(1, "any"), Wait(ARRAY, "any", True), Wait(30, "any", True)}
    end(bench, 1, "failed")
    for index in range(3):
        end(bench, ARRAY + index)
    assert [verdict(bench, number) for number in (30, 31, 40)] == ["queued", "queued", "waits"]


def test_what_is_run_again_together_keeps_its_order() -> None:
    bench = Bench(node())
    bench.submit(job(1), job(2, after=(Wait(1),)))
    end(bench, 1, "failed")
    first, second = bench.state.jobs[1], bench.state.jobs[2]
    bench.state.take_changes()
    with pytest.raises(ev.RefusedError, match=r"job 1.*ended as failed.*retry that one too"):
        bench.happen(ev.RetryRequested(2, second, (Past(1, False, FAILED),)))
    assert 2 not in bench.state.jobs
    bench.happen(ev.RetryRequested(1, first), ev.RetryRequested(2, second))
    assert (verdict(bench, 1), verdict(bench, 2)) == ("queued", "waits")
    end(bench, 1)
    assert verdict(bench, 2) == "queued"


def test_an_element_that_is_run_again_counts_as_not_over() -> None:
    bench = Bench(node())
    bench.submit(*elements())
    for index, outcome in enumerate(("done", "failed", "failed")):
        end(bench, ARRAY + index, outcome)
    over = {one.id: one for one in bench.state.take_changes().jobs}
    assert ARRAY not in bench.state.arrays
    broken = {ARRAY + 1: FAILED, ARRAY + 2: FAILED}
    bench.happen(ev.RetryRequested(ARRAY + 1, over[ARRAY + 1], broken=broken))
    bench.submit(job(20, after=(Wait(ARRAY, "any", True),)))
    assert verdict(bench, 20) == "waits"
    end(bench, ARRAY + 1)
    assert verdict(bench, 20) == "queued"
    bench.happen(ev.JobAccepted(job(21, after=(Wait(ARRAY, "ok", True),))))
    assert verdict(bench, 21) == "cancelled"


def test_a_retry_is_of_the_record_that_holds_now() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    end(bench, 1)
    bench.happen(ev.RetryRequested(1))
    with pytest.raises(ev.RefusedError, match="only a finished job"):
        bench.happen(ev.RetryRequested(1))
    with pytest.raises(ev.RefusedError, match="no job 7"):
        bench.happen(ev.RetryRequested(7))


@pytest.mark.parametrize(("outcome", "expected"), [(None, "waits"), (DONE, "queued"), (FAILED, "cancelled")])
def test_a_sweep_is_waited_for_by_what_the_store_says(outcome: JobState | None, expected: str) -> None:
    bench = Bench(node())
    bench.happen(ev.JobAccepted(job(2, after=(Wait(1),)), (Past(1, False, None, "sweep 1"),)))
    assert verdict(bench, 2) == "waits"
    assert waits_sentence(bench.state, bench.state.jobs[2]) == "after sweep 1 is done"
    bench.happen(ev.DependencyEnded(((1, False),), (Past(1, False, outcome, "sweep 1"),)))
    assert verdict(bench, 2) == expected
