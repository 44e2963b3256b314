"""What a node reports is believed within bounds, and what makes no sense costs one attempt at most."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.actions import Remove, Start, StopAttempt
from racksack_controller.core.decide import decide
from racksack_controller.core.report import AttemptReport, unreadable
from racksack_jobspecs.resources import DISK_BYTES_MAX, Gpu, Inventory
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, job, node, report


def test_an_attempt_with_an_unreadable_report_is_stopped_and_removed_and_its_job_runs_again() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.run(1)
    bench.happen(ev.Reported("n1", unreadable("1.1", "n1 reports what makes no sense")))
    assert bench.state.jobs[1].state is JobState.QUEUED
    [stop] = decide(bench.state, bench.now)
    assert isinstance(stop, StopAttempt)
    assert stop.attempt == "1.1"
    bench.happen(ev.StopSent("n1", "1.1"))
    assert decide(bench.state, bench.now) == [Remove("n1", "1.1")]
    bench.happen(ev.Reported("n1", unreadable("1.1", "again")), ev.StopSent("n1", "1.1"), ev.Removed("n1", "1.1"))
    bench.now += 400.0
    bench.place()
    assert decide(bench.state, bench.now) == [Start("n1", "1.2")]
    assert bench.state.orphans == {}


def test_how_an_attempt_ended_is_not_forgotten_over_an_unreadable_report() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.run(1)
    bench.happen(ev.Reported("n1", report("1.1", "ended")), ev.Reported("n1", unreadable("1.1", "nonsense")))
    assert bench.state.jobs[1].state is JobState.COLLECTING


def test_an_unreadable_report_of_an_attempt_that_is_not_ours_ends_in_its_removal() -> None:
    bench = Bench(node())
    bench.happen(ev.Reported("n1", unreadable("9.1", "nonsense")))
    assert [type(action) for action in decide(bench.state, bench.now)] == [StopAttempt]
    bench.happen(ev.StopSent("n1", "9.1"))
    assert decide(bench.state, bench.now) == [Remove("n1", "9.1")]
    bench.happen(ev.Removed("n1", "9.1"))
    assert bench.state.orphans == {}


def test_a_job_has_not_started_later_than_now_whatever_its_node_says() -> None:
    bench = Bench(node())
    bench.submit(job(1))
    bench.place()
    bench.happen(ev.Launched("1.1"), ev.Reported("n1", report("1.1", started_at_s=9e10)))
    assert bench.state.attempts["1.1"].started_at_s == bench.now


GPU = {"index": 0, "uuid": "GPU-1", "vendor": "nvidia", "model": "x", "vram_bytes": 1}
GOOD: dict[str, Any] = {"cpus": 8, "ram_bytes": 2**33, "disk_bytes": 2**40, "gpus": [GPU]}


@pytest.mark.parametrize(
    "change",
    [
        {"cpus": -1},
        {"cpus": 10**23},
        {"cpus": 1.5},
        {"ram_bytes": 10**23},
        {"ram_bytes": -1},
        {"disk_bytes": -1},
        {"disk_bytes": None},
        {"gpus": [GPU, GPU]},
        {"gpus": [{**GPU, "uuid": str(number)} for number in range(1000)]},
        {"gpus": [{**GPU, "vram_bytes": 10**23}]},
        {"gpus": [{**GPU, "index": -1}]},
        {"gpus": [{**GPU, "model": "m" * 10_000}]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_an_inventory_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    assert msgspec.convert(GOOD, Inventory).gpus == (Gpu(0, "GPU-1", "nvidia", "x", 1),)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(GOOD | change, Inventory)


def test_an_endless_disk_is_one_that_can_be_added_up() -> None:
    """Some network file systems say so of themselves."""
    assert msgspec.convert(GOOD | {"disk_bytes": 2**64}, Inventory).disk_bytes == DISK_BYTES_MAX


@pytest.mark.parametrize("key", ["1.1\n", "1.1 ", "1", "-1.1", "1.1@", "1" * 16 + ".1", "\u0661.1"])
def test_the_key_of_an_attempt_is_one_and_nothing_more(key: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"attempt": key, "state": "running"}, AttemptReport)


@pytest.mark.parametrize("digest", ["a" * 64 + "\n", "A" * 64, "a" * 63])
def test_a_digest_is_one_and_nothing_more(digest: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"attempt": "1.1", "state": "running", "output_digest": digest}, AttemptReport)
