"""Judges points by what they report while they run.

A point that is stopped has its outcome in that moment: the values that it has just reported. What its worker tells of
it later is too late, so it counts once, whatever is killed in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from racksack_controller.core.sweeps.stopping import Verdict
from racksack_controller.sweeps.active import Active, Lease
from racksack_controller.sweeps.results.reports import STEP
from racksack_controller.sweeps.results.segments import Segment, build

Answer = tuple[int, bool]  # how many rungs of its ladder a point has behind it, and whether it stops


@dataclass
class Judged:
    """What some reports come to."""

    verdicts: list[Verdict] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)  # what their runner is told, by point
    stopped: Segment | None = None  # the outcomes of the points that stop now


def judge(active: Active, lease: Lease, reports: Segment) -> Judged:
    """Decide about each report in turn. The caller saves the verdicts and takes the outcomes."""
    judged = Judged()
    rungs = active.rungs
    if rungs is None:
        return judged
    columns = dict(reports.metric_columns())
    values = columns.get(active.spec.metrics[0].name)
    stopped: list[int] = []
    for row, (point, step) in enumerate(zip(reports.numbers().tolist(), columns[STEP].tolist(), strict=True)):
        if point in lease.left:
            verdict = rungs.judge(point, step, _number(values[row] if values is not None else None))
            if verdict is not None:
                judged.verdicts.append(verdict)
                if verdict.stop:
                    stopped.append(row)
        if rungs.judged(point):  # also a verdict that did not arrive, of a point that asks again
            judged.answers[point] = (rungs.judged(point), point in rungs.stopped)
    if stopped:
        rows = np.array(stopped)
        rows = rows[np.argsort(reports.numbers()[rows], kind="stable")]
        kept = {name: column[rows] for name, column in columns.items()}
        judged.stopped = build(reports.numbers()[rows], reports.seconds()[rows], kept)
    return judged


def _number(value: object) -> float:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if is_number else math.nan  # type: ignore[arg-type] # it is a number
