"""Which jobs go to a cluster, and what those that stay are told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.apply import LOGIN_AWAY_S, lose_unreachable
from racksack_controller.core.placing.overflow import overflow
from racksack_controller.core.policy import DEFAULT
from racksack_controller.core.records import Overflow
from racksack_controller.core.state import Node
from racksack_controller.core.why import why_job
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.states import JobState
from tests.core.builders import GIB, Bench, gpus, inventory, job, node, report, request

HOUR_S = 3600.0


def campus(cost: float = 1.0, time_limit_s: float = 4 * HOUR_S, **changes: Any) -> Node:
    """A cluster of 1,000 CPUs whose machines have 64, with four devices."""
    devices = gpus(4, model="a100", vram=80 * GIB, prefix="slurm")
    whole = msgspec.structs.replace(
        inventory(1000, 4000, devices=devices), job_cpus=64, job_ram_bytes=256 * GIB, job_gpus=2
    )
    return node("campus", kind="slurm", inventory=whole, overflow=Overflow(cost, time_limit_s), max_jobs=5, **changes)


def spill(bench: Bench) -> dict[int, str]:
    """Fill the own servers, then the clusters; where each job of the latter went."""
    bench.place()
    placed = overflow(bench.state, bench.now, DEFAULT)
    bench.happen(*placed, after_s=0.0)
    return {one.job: one.node for one in placed}


def told(bench: Bench, number: int) -> str:
    return why_job(bench.reading(), bench.state.jobs[number])


def full(cluster: Node, time_limit_s: float = HOUR_S) -> Bench:
    """One server that is busy for an hour, and a cluster."""
    bench = Bench(node("n1"), cluster)
    bench.submit(job(1, request(8), time_limit_s=time_limit_s))
    assert spill(bench) == {}
    assert bench.state.attempts["1.1"].node == "n1"
    return bench


def test_the_own_servers_come_first() -> None:
    bench = Bench(campus(), node("n1"))
    bench.submit(*(job(number, request(2)) for number in range(1, 5)))
    assert spill(bench) == {}
    assert {one.node for one in bench.state.attempts.values()} == {"n1"}


def test_a_job_goes_there_when_that_saves_more_than_the_cost_says() -> None:
    bench = full(campus(cost=1.5))
    bench.submit(job(2, request(8), time_limit_s=0.6 * HOUR_S), job(3, request(8), time_limit_s=0.8 * HOUR_S))
    assert spill(bench) == {2: "campus"}
    why = bench.state.attempts["2.1"].why
    assert why == "the wait here is expected to be 59m58s, on campus 0s, for a job of 36m00s"
    assert "it waits for a server of the rack, about 59m" in told(bench, 3)
    assert "it runs there only to save more than 1h12m (1.5 times its length)" in told(bench, 3)


def test_those_behind_wait_longer_and_go() -> None:
    bench = full(campus())
    bench.submit(*(job(number, request(8), time_limit_s=1.1 * HOUR_S) for number in (2, 3)))
    assert spill(bench) == {3: "campus"}


def test_the_wait_there_counts() -> None:
    bench = full(campus())
    bench.submit(job(2, request(8), time_limit_s=600.0, nodes=("campus",)))
    assert spill(bench) == {2: "campus"}
    bench.happen(ev.Launched("2.1"), ev.Reported("campus", report("2.1", "preparing", reason="waits in Slurm's queue")))
    assert told(bench, 2) == "waits in Slurm's queue"
    bench.now += 0.9 * HOUR_S  # it still waits there; the server is free in 6 minutes
    bench.submit(job(3, request(8), time_limit_s=600.0))
    assert spill(bench) == {}
    assert "on campus 54m" in told(bench, 3)


@pytest.mark.parametrize("asked", [{"nodes": ("campus",)}, {"partition": "campus"}, {"labels": ("big",)}])
def test_who_asks_for_it_goes_there_at_once(asked: dict[str, Any]) -> None:
    bench = Bench(node("n1"), campus(partitions=("campus",), labels=("big",)))
    bench.submit(job(1, **asked))
    assert spill(bench) == {1: "campus"}
    assert bench.state.attempts["1.1"].why == "asked for campus"


def test_what_only_it_can_hold_goes_there_at_once() -> None:
    bench = Bench(node("n1"), campus())
    bench.submit(job(1, request(16)), job(2, request(1, gpu=GpuRequest(2, "a100"))))
    assert spill(bench) == {1: "campus", 2: "campus"}
    assert bench.state.attempts["2.1"].allocation.gpus == ("slurm-0", "slurm-1")


def test_devices_are_given_out_once() -> None:
    bench = Bench(campus())
    bench.submit(*(job(number, request(1, gpu=2)) for number in (1, 2, 3)))
    assert spill(bench) == {1: "campus", 2: "campus"}
    held = [uuid for one in bench.state.attempts.values() for uuid in one.allocation.gpus]
    assert len(held) == len(set(held)) == 4


def test_no_job_is_larger_than_one_of_its_machines() -> None:
    bench = Bench(node("n1"), campus())
    bench.submit(job(1, request(100)), job(2, request(1, gpu=GpuRequest(3, "a100"))))
    assert spill(bench) == {}
    assert told(bench, 1).startswith("never:")


def test_gangs_terminals_and_longer_jobs_stay() -> None:
    bench = full(campus())
    bench.submit(
        job(2, request(8), gang=2), job(3, request(8), interactive=True), job(4, request(1), time_limit_s=5 * HOUR_S)
    )
    assert spill(bench) == {}


def test_the_default_time_limit_is_no_wish() -> None:
    bench = Bench(node("n1"), campus())
    bench.submit(job(1, request(16), time_limit_s=DEFAULT.default_time_limit_s))
    assert spill(bench) == {1: "campus"}


def test_it_takes_no_more_jobs_than_it_may_have() -> None:
    bench = Bench(campus())
    bench.submit(*(job(number, request(1)) for number in range(1, 9)))
    assert len(spill(bench)) == 5
    assert spill(bench) == {}
    assert told(bench, 8) == "campus has no room for more of our jobs; asked for campus"


@pytest.mark.parametrize("change", [{"connected": False, "connection_reason": "no route"}, {"cool_until_s": 1e9}])
def test_nothing_is_placed_where_nobody_answers(change: dict[str, Any]) -> None:
    bench = Bench(node("n1"), campus(**change))
    bench.submit(job(1, request(16)))
    assert spill(bench) == {}
    assert told(bench, 1).startswith("campus ")


def test_a_reservation_is_not_on_a_cluster() -> None:
    bench = full(campus(cost=100.0))
    bench.submit(job(2, request(8), time_limit_s=HOUR_S), job(3, request(8), time_limit_s=HOUR_S))
    assert spill(bench) == {}
    assert bench.memory.reservation is not None
    assert bench.memory.reservation.at_s >= bench.now + HOUR_S - 60


def test_jobs_there_outlive_a_login_node_that_is_away_for_a_day() -> None:
    bench = Bench(campus())
    bench.submit(job(1, request(1)))
    assert spill(bench) == {1: "campus"}
    bench.happen(ev.Launched("1.1"), ev.Reported("campus", report("1.1")), ev.NodeDisconnected("campus", "no route"))
    lose_unreachable(bench.state, bench.now + 86400.0, 600.0)
    assert bench.state.jobs[1].state is JobState.RUNNING
    lose_unreachable(bench.state, bench.now + LOGIN_AWAY_S + 1, 600.0)
    assert bench.state.jobs[1].state is JobState.QUEUED
