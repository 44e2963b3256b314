"""Which numbers the points of a sweep have."""

from __future__ import annotations

from racksack_controller.core.sweep_ranges import Ranges
from racksack_jobspecs.sweep.spec import SweepSpec, point_numbers


def numbered(spec: SweepSpec) -> Ranges:
    """All points of a space."""
    return Ranges([(0, point_numbers(spec))])
