"""Which numbers the points of a sweep have."""

from __future__ import annotations

from racksack_controller.core.sweep_ranges import Ranges
from racksack_controller.sweeps.allowed import allowed
from racksack_jobspecs.sweep.spec import SweepSpec, point_numbers


def is_drawn(spec: SweepSpec) -> bool:
    """Whether a search draws the points, so that their numbers say nothing."""
    return spec.range is None and not spec.scripts and spec.search.kind != "grid"


def numbered(spec: SweepSpec) -> Ranges:
    """All points of a sweep."""
    return Ranges([(0, point_numbers(spec))] if is_drawn(spec) else allowed(spec))
