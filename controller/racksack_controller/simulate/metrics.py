"""What a replay is judged by.

Bounded slowdown is max(1, (wait + run) / max(run, 10 s)) (Feitelson et al., "Theory and practice in parallel job
scheduling", JSSPP 1997).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from racksack_controller.simulate.engine import Outcome
from racksack_controller.simulate.fleet import Fleet
from racksack_controller.simulate.machines import Machines
from racksack_controller.simulate.power import PowerUse

BOUND_S = 10.0


class Metrics(msgspec.Struct, frozen=True):
    """Times in seconds, utilisation as a part of 1."""

    jobs: int
    wait_mean_s: float
    wait_p95_s: float
    wait_p99_s: float
    wait_max_s: float
    slowdown_mean: float
    slowdown_p95: float
    utilisation: float
    makespan_s: float
    node_hours_on: float
    boots: int | None = None  # None: power was not looked at
    kwh: float | None = None


def measure(outcomes: Sequence[Outcome], machines: Machines | Fleet, power: PowerUse | None = None) -> Metrics:
    """The metrics of a replay in which every job has ended."""
    done = [one for one in outcomes if one.started_s is not None and one.ended_s is not None]
    submit = np.array([one.task.submit_s for one in done])
    start = np.array([one.started_s for one in done], dtype=np.float64)
    end = np.array([one.ended_s for one in done], dtype=np.float64)
    run = np.array([one.task.run_s for one in done])
    work = float((run * np.array([one.task.processors for one in done])).sum())
    wait = start - submit
    slowdown = np.maximum(1.0, (wait + run) / np.maximum(run, BOUND_S))
    makespan = float(end.max() - submit.min())
    return Metrics(
        jobs=len(done),
        wait_mean_s=float(wait.mean()),
        wait_p95_s=float(np.percentile(wait, 95)),
        wait_p99_s=float(np.percentile(wait, 99)),
        wait_max_s=float(wait.max()),
        slowdown_mean=float(slowdown.mean()),
        slowdown_p95=float(np.percentile(slowdown, 95)),
        utilisation=work / (makespan * machines.processors),
        makespan_s=makespan,
        node_hours_on=makespan / 3600.0 * machines.count if power is None else power.node_hours_on,
        boots=None if power is None else power.boots,
        kwh=None if power is None else power.kwh,
    )
