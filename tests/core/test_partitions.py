"""Partitions: where their jobs may run, how many, and who may ask for them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from racksack_controller.config.config import Defaults
from racksack_controller.config.partitions import Partition
from racksack_controller.core import events as ev
from racksack_controller.core.policy import Policy
from racksack_controller.core.why import never, why_job
from racksack_controller.intake.partition_rules import settled
from racksack_jobspecs.spec import JobSpec
from tests.core.builders import Bench, job, node, report, request

DAY = Partition("day", nodes=("a",), is_default=True, time_limit_s=3600.0)
NIGHT = Partition("night", nodes=("a", "b"), users=("ann",), max_running_per_owner=2)
BOTH = {"day": DAY, "night": NIGHT}


def rack() -> Bench:
    return Bench(node("a", partitions=("day", "night")), node("b", partitions=("night",)), node("c"))


def test_jobs_stay_in_their_partition() -> None:
    bench = rack()
    bench.submit(*(job(number, request(8), partition="night") for number in (1, 2, 3)), job(4, request(8)))
    assert {placed.node for placed in bench.place()} == {"a", "b", "c"}
    assert bench.state.attempts["4.1"].node == "c"
    assert "3 is" not in why_job(bench.reading(), bench.state.jobs[3])
    assert "short of CPU" in why_job(bench.reading(), bench.state.jobs[3])


def test_each_owner_runs_so_many_in_it_and_others_are_not_held_up() -> None:
    policy = Policy(partition_limits={"night": 2})
    bench = rack()
    bench.submit(*(job(number, request(1), partition="night") for number in (1, 2, 3)))
    bench.submit(job(4, request(1)), job(5, request(1), partition="night", owner="bob"))
    assert sorted(placed.job for placed in bench.place(policy)) == [1, 2, 4, 5]
    waiting = bench.state.jobs[3]
    told = why_job(bench.reading(policy), waiting)
    assert told == "ann already runs 2 jobs in partition night, which is the limit for one owner"
    where = bench.state.attempts["1.1"].node
    bench.happen(ev.Reported(where, report("1.1", "ended")), ev.Collected("1.1"))
    assert [placed.job for placed in bench.place(policy)] == [3]


def test_a_node_that_leaves_a_partition_takes_no_more_of_its_jobs() -> None:
    bench = rack()
    bench.happen(ev.NodeConfigured(node("a", partitions=("day",))))
    bench.submit(job(1, request(8), partition="night"), job(2, request(8), partition="night"))
    assert [placed.node for placed in bench.place()] == ["b"]


def test_what_can_never_run_is_said() -> None:
    nodes = rack().state.nodes.values()
    assert never(job(1, partition="gone"), nodes) == "partition gone has no nodes"
    assert never(job(1, partition="day", nodes=("c",)), nodes) == "c does not belong to partition day"
    assert never(job(1, request(1), partition="night", gang=3), nodes) == (
        "it needs 3 nodes at once, and only 2 nodes could run a rank of it"
    )


@pytest.mark.parametrize(
    ("wants", "partitions", "expected"),
    [
        ({}, {}, ("", 7200.0)),
        ({}, BOTH, ("day", 3600.0)),
        ({"time_limit_s": 60.0}, BOTH, ("day", 60.0)),
        ({"partition": "night"}, BOTH, ("night", 7200.0)),
        ({"partition": "night", "time_limit_s": 1e6}, BOTH, ("night", 1e6)),
    ],
)
def test_the_partition_and_time_limit_of_a_job(
    wants: dict[str, object], partitions: Mapping[str, Partition], expected: tuple[str, float]
) -> None:
    spec = settled(JobSpec(name="j", project="p", entrypoint="e", **wants), "ann", partitions, Defaults(7200.0), {})  # type: ignore[arg-type]
    assert (spec.partition, spec.time_limit_s) == expected


@pytest.mark.parametrize(
    ("wants", "sentence"),
    [
        ({"partition": "nigth"}, "there is no partition nigth; there are: day, night"),
        ({"partition": "night"}, "partition night is only for ann"),
        ({"time_limit_s": 7200.0}, "partition day allows jobs of at most 1h00m, not 2h00m"),
    ],
)
def test_who_may_not_and_for_how_long(wants: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settled(JobSpec(name="j", project="p", entrypoint="e", **wants), "bob", BOTH, Defaults(None), {})  # type: ignore[arg-type]
