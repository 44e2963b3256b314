"""Recorded workloads: a known schedule start by start, another simulator's figures, and our default against EASY."""

from __future__ import annotations

import csv
import gzip
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace

from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Backfill, BackfillOrder, Policy
from racksack_controller.simulate.engine import Outcome, Replay
from racksack_controller.simulate.machines import Layout, Machines
from racksack_controller.simulate.metrics import Metrics, measure
from racksack_controller.simulate.workload import read
from tests.sizes import sized

pytestmark = [pytest.mark.traces, pytest.mark.timeout(600)]

BATSIM = "easy_oracle/easy.out_jobs.csv.gz"
NASA = "swf/NASA-iPSC-1993-3.1-cln.swf.gz"
HPC2N = "swf/HPC2N-2002-first57days.swf.gz"
LUBLIN = "swf/lublin_256.swf.gz"

# file, rack, EASY's mean wait (s) and mean bounded slowdown by an independent simulator
KNOWN = [
    (BATSIM, Machines(32, 1, Layout.GANG), 9.516, 1.241),
    (NASA, Machines(16, 8, Layout.POOL), 4, 1.01),
    (NASA, Machines(4, 32), 5, 1.02),
    (HPC2N, Machines(30, 8, Layout.POOL), 3479, 16.86),
    (HPC2N, Machines(6, 32), 4171, 22.09),
    (LUBLIN, Machines(32, 8, Layout.POOL), 97156, 590.05),
]

KNOWN_QUICKLY = [KNOWN[0], KNOWN[4]]  # the others take long
JOBS = sized(450, None)  # of each workload, from its beginning; None: all

POLICIES = {
    "easy": TEXTBOOK_EASY,
    "default": DEFAULT,
    "conservative": Policy(backfill=Backfill.CONSERVATIVE),
    "fair": Policy(fair_share=True),
    "fair, no predictions": Policy(fair_share=True, predict=False, backfill_order=BackfillOrder.QUEUE),
    "fair, conservative": Policy(fair_share=True, backfill=Backfill.CONSERVATIVE),
    "first come": Policy(backfill=Backfill.NONE),
}
ALL = tuple(POLICIES)
SOME = ("easy", "fair", "fair, no predictions")
# More owners than one, and more work than the rack can do at once: there somebody has to wait. Conservative backfill of
# a long queue takes minutes.
CONTENDED = [
    (HPC2N, Machines(30, 8, Layout.POOL), 1.0, ALL),
    (HPC2N, Machines(6, 32), 1.0, SOME),
    (HPC2N, Machines(30, 8, Layout.POOL), 2.0, SOME),
    (NASA, Machines(16, 8, Layout.POOL), 3.0, SOME),
]


def replay(
    traces: Path, name: str, machines: Machines, policy: Policy, *, denser: float = 1.0, jobs: int | None = None
) -> list[Outcome]:
    """The first `jobs` if that is given. `denser`: the first 3,000 alone arrive so many times as fast."""
    tasks = read(traces / name)[:jobs]
    if denser != 1.0:
        begin_s = tasks[0].submit_s
        tasks = [replace(one, submit_s=begin_s + (one.submit_s - begin_s) / denser) for one in tasks[:3000]]
    return Replay(tasks, machines, policy).run()


@cache
def measured(
    traces: Path, name: str, machines: Machines, policy: str, denser: float = 1.0, jobs: int | None = JOBS
) -> Metrics:
    """Replayed once for all tests."""
    return measure(replay(traces, name, machines, POLICIES[policy], denser=denser, jobs=jobs), machines)


def test_batsims_easy_schedule_start_by_start(traces: Path) -> None:
    with gzip.open(traces / BATSIM, "rt") as file:
        expected = {int(row["job_id"]): float(row["starting_time"]) for row in csv.DictReader(file)}
    outcomes = replay(traces, BATSIM, Machines(32, 1, Layout.GANG), TEXTBOOK_EASY)
    assert {one.task.number: one.started_s for one in outcomes} == pytest.approx(expected, abs=1e-3)
    assert len(expected) == 801


@pytest.mark.parametrize(("name", "machines", "wait_s", "slowdown"), sized(KNOWN_QUICKLY, KNOWN))
def test_easy_agrees_with_another_simulator(
    traces: Path, name: str, machines: Machines, wait_s: float, slowdown: float
) -> None:
    found = measured(traces, name, machines, "easy", jobs=None)
    assert found.wait_mean_s == pytest.approx(wait_s, rel=0.005, abs=0.5)
    assert found.slowdown_mean == pytest.approx(slowdown, rel=0.005)


@pytest.mark.parametrize(("name", "machines"), [(name, machines) for name, machines, _wait_s, _slowdown in KNOWN])
def test_our_default_is_no_worse_than_easy(traces: Path, name: str, machines: Machines) -> None:
    ours = measured(traces, name, machines, "default")
    easy = measured(traces, name, machines, "easy")
    assert ours.wait_mean_s <= easy.wait_mean_s
    assert ours.slowdown_mean <= easy.slowdown_mean
    assert ours.wait_max_s <= 1.5 * easy.wait_max_s


@pytest.mark.parametrize(("name", "machines", "denser", "policies"), CONTENDED)
def test_no_policy_lets_a_job_wait_more_than_twice_as_long_as_easy(
    traces: Path, name: str, machines: Machines, denser: float, policies: tuple[str, ...]
) -> None:
    full = ALL if denser == 1.0 else ALL[:-1]  # first come, first served: an overloaded rack pays for that
    longest_s = {
        policy: measured(traces, name, machines, policy, denser).wait_max_s for policy in sized(policies, full)
    }
    assert {policy: wait_s for policy, wait_s in longest_s.items() if wait_s > 2.0 * longest_s["easy"]} == {}
