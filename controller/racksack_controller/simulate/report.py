"""A replay's results for people: a table, JSON, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from racksack_controller.simulate.engine import Outcome
from racksack_controller.simulate.metrics import Metrics
from racksack_controller.simulate.picture import Chart, Line
from racksack_jobspecs.units import format_duration

POINTS = 600  # of a line in the picture
NUMBERS = (
    f"{'jobs':>7}{'mean wait':>11}{'p95':>8}{'p99':>8}{'longest':>9}"
    f"{'slowdown':>10}{'p95':>8}{'busy':>7}{'makespan':>10}{'node-hours':>12}{'boots':>7}{'kWh':>9}"
)


def table(found: Mapping[str, Metrics]) -> list[str]:
    """A line for each variant, under a header."""
    wide = max(map(len, [*found, "policy"])) + 2
    return [f"{'policy':{wide}}{NUMBERS}", *(f"{name:{wide}}{_numbers(one)}" for name, one in found.items())]


def _numbers(found: Metrics) -> str:
    waits = (found.wait_p95_s, found.wait_p99_s)
    return (
        f"{found.jobs:7}{found.wait_mean_s:10.1f}s"
        + "".join(f"{format_duration(wait):>8}" for wait in waits)
        + f"{format_duration(found.wait_max_s):>9}{found.slowdown_mean:10.3f}{found.slowdown_p95:8.1f}"
        + f"{found.utilisation:7.1%}{found.makespan_s / 3600:9.1f}h{found.node_hours_on:12.0f}"
        + ("" if found.boots is None else f"{found.boots:7}{found.kwh:9.1f}")
    )


def charts(results: Mapping[str, Sequence[Outcome]]) -> list[Chart]:
    """What was in use, and who waited how long."""
    busy = [Line(name, _busy(outcomes)) for name, outcomes in results.items()]
    waits = [Line(name, _waits(outcomes)) for name, outcomes in results.items()]
    return [
        Chart("Processors in use", "hours", "processors", busy),
        Chart("Jobs that waited no longer", "wait, seconds", "part of all jobs", waits, log_x=True),
    ]


def _busy(outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    """Mean use in equal steps of time."""
    done = [one for one in outcomes if one.started_s is not None and one.ended_s is not None]
    start = np.array([one.started_s for one in done], dtype=np.float64)
    end = np.array([one.ended_s for one in done], dtype=np.float64)
    width = np.array([one.task.processors for one in done], dtype=np.float64)
    edges = np.linspace(start.min(), end.max(), POINTS + 1)
    work = np.zeros(POINTS + 1)  # processor seconds before each edge
    for times, sign in ((start, 1.0), (end, -1.0)):
        order = np.argsort(times)
        at, weights = times[order], width[order] * sign
        count, moment = np.cumsum(np.r_[0.0, weights]), np.cumsum(np.r_[0.0, weights * at])
        place = np.searchsorted(at, edges)
        work += count[place] * edges - moment[place]
    use = np.diff(work) / np.diff(edges)
    hours = (edges[:-1] - edges[0]) / 3600.0
    return list(zip(hours.tolist(), use.tolist(), strict=True))


def _waits(outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    """The distribution of waits; waits below a second stand at one second."""
    waits = sorted(max(1.0, one.started_s - one.task.submit_s) for one in outcomes if one.started_s is not None)
    picks = sorted({round(part * (len(waits) - 1) / POINTS) for part in range(POINTS + 1)})
    return [(waits[pick], (pick + 1) / len(waits)) for pick in picks]
