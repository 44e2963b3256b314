"""Which numbers the points of a sweep have."""

from __future__ import annotations

from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.sweeps.search.grid import allowed
from racksack_controller.sweeps.search.samplers import check_some, distinct_points
from racksack_jobspecs.sweep.spec import SweepSpec, point_numbers


def is_drawn(spec: SweepSpec) -> bool:
    """Whether a search draws the points, so that their numbers say nothing."""
    return spec.range is None and not spec.scripts and spec.search.kind != "grid"


def numbered(spec: SweepSpec) -> Ranges:
    """All points of a sweep. Raises ValueError with a sentence where `where` has no value or leaves too little in."""
    if not is_drawn(spec):
        return Ranges(allowed(spec))
    count, most = point_numbers(spec), distinct_points(spec)
    if most is None:
        check_some(spec)
    return Ranges([(0, count if most is None else min(most, count))])
