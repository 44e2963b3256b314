"""Recorded workloads: a known schedule start by start, another simulator's figures, and our default against EASY."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Policy
from racksack_controller.simulate.engine import Outcome, Replay
from racksack_controller.simulate.machines import Layout, Machines
from racksack_controller.simulate.metrics import measure
from racksack_controller.simulate.workload import read

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


def replay(traces: Path, name: str, machines: Machines, policy: Policy) -> list[Outcome]:
    return Replay(read(traces / name), machines, policy).run()


def test_batsims_easy_schedule_start_by_start(traces: Path) -> None:
    with gzip.open(traces / BATSIM, "rt") as file:
        expected = {int(row["job_id"]): float(row["starting_time"]) for row in csv.DictReader(file)}
    outcomes = replay(traces, BATSIM, Machines(32, 1, Layout.GANG), TEXTBOOK_EASY)
    assert {one.task.number: one.started_s for one in outcomes} == pytest.approx(expected, abs=1e-3)
    assert len(expected) == 801


@pytest.mark.parametrize(("name", "machines", "wait_s", "slowdown"), KNOWN)
def test_easy_agrees_with_another_simulator(
    traces: Path, name: str, machines: Machines, wait_s: float, slowdown: float
) -> None:
    found = measure(replay(traces, name, machines, TEXTBOOK_EASY), machines)
    assert found.wait_mean_s == pytest.approx(wait_s, rel=0.005, abs=0.5)
    assert found.slowdown_mean == pytest.approx(slowdown, rel=0.005)


@pytest.mark.parametrize(("name", "machines", "wait_s", "slowdown"), KNOWN)
def test_our_default_is_no_worse_than_easy(
    traces: Path, name: str, machines: Machines, wait_s: float, slowdown: float
) -> None:
    ours = measure(replay(traces, name, machines, DEFAULT), machines)
    easy = measure(replay(traces, name, machines, TEXTBOOK_EASY), machines)
    assert ours.wait_mean_s <= easy.wait_mean_s
    assert ours.slowdown_mean <= easy.slowdown_mean
    assert ours.wait_max_s <= 1.5 * easy.wait_max_s
