"""Recorded workloads on racks that are switched: what docs/power.md says of them holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from racksack_controller.simulate.machines import Machines
from racksack_controller.simulate.metrics import measure
from racksack_controller.simulate.oracle import oracle_node_hours, whole_jobs_cpu_hours
from racksack_controller.simulate.power import PowerUse
from tests.bench.power_replay import CASES, model_for, replay, sizes_of
from tests.sizes import FULL, sized

full_size = pytest.mark.skipif(not FULL, reason="RACKSACK_FULL_SIZE=1 runs it")
pytestmark = [pytest.mark.traces, pytest.mark.timeout(900)]

JOBS = sized(450, None)  # of each workload, from its beginning; None: all
GOAL = 1.10  # of the oracle's node-hours, and of the mean wait of a rack that is always on


class Both:
    """A workload on the rack when it is switched and when it is always on."""

    def __init__(self, traces: Path, name: str) -> None:
        self.machines = CASES[name][1]
        always, _ = replay(traces, name, None, JOBS)
        self.outcomes, use = replay(traces, name, model_for(name, None, None), JOBS)
        assert use is not None
        self.use: PowerUse = use
        self.always = measure(always, self.machines)
        self.switched = measure(self.outcomes, self.machines)

    @property
    def waits(self) -> float:
        """Mean wait, as a multiple of the always-on rack's."""
        return self.switched.wait_mean_s / self.always.wait_mean_s

    @property
    def on(self) -> float:
        """Node-hours, as a part of the always-on rack's."""
        return self.use.node_hours_on / self.always.node_hours_on

    def over_oracle(self) -> float:
        """Node-hours as a multiple of what running processors fill: jobs that are cut up and moved for nothing."""
        assert isinstance(self.machines, Machines)
        return self.use.node_hours_on / oracle_node_hours(self.outcomes, self.machines.cpus)


def test_a_queue_on_equal_nodes(traces: Path) -> None:
    both = Both(traces, "hpc2n")
    sizes = sizes_of(both.machines)
    cpu_hours = both.use.node_hours_on * sizes[0]
    assert cpu_hours < GOAL * whole_jobs_cpu_hours(both.outcomes, sizes)
    assert both.waits < GOAL
    assert both.use.boots < 460


def test_a_queue_on_a_pool(traces: Path) -> None:
    both = Both(traces, "hpc2n-pool")
    assert both.over_oracle() < GOAL
    assert both.waits < GOAL


@full_size
def test_a_queue_on_unequal_nodes(traces: Path) -> None:
    """Those who need a large node hide nobody who could have a small one; small jobs do not fill the large node."""
    both = Both(traces, "hpc2n-unequal")
    assert both.waits < 1.02
    assert both.on < 0.30


@full_size
def test_many_short_jobs_and_no_queue(traces: Path) -> None:
    """Any boot adds to a wait of four seconds; fewer boots and node-hours than with a fixed idle time of 300 s."""
    both = Both(traces, "nasa-pool")
    assert both.over_oracle() < GOAL
    assert both.use.boots < 12_766
    assert both.use.node_hours_on < 19_086


def test_nodes_that_suspend(traces: Path) -> None:
    """Less energy and less waiting than the published opportunistic shutdown (35.85 MJ, 41.5 s)."""
    both = Both(traces, "batsim")
    assert both.use.joules < 35.85e6
    assert both.switched.wait_mean_s < 41.5
