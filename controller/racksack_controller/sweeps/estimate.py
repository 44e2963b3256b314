"""What a sweep would be before it is submitted: how many points, on how many workers, and about how long."""

from __future__ import annotations

import math
import sqlite3
from typing import Any

from racksack_controller.core.records import Job
from racksack_controller.core.state import State
from racksack_controller.core.sweeps import rules, sizes
from racksack_controller.store import Store
from racksack_controller.sweeps.active import slots_of
from racksack_controller.sweeps.results import ledger
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import SweepSpec, point_numbers

EARLIER_MAX = 20  # sweeps that are looked at for a speed


def plan_sweep(store: Store, state: State, draft: Job, points: int) -> dict[str, Any]:
    """Points, workers, and chunks and duration where an earlier sweep of the same target tells a speed.

    Raises ValueError with a sentence where `where` leaves nothing in.
    """
    spec, owner = draft.spec, draft.owner
    sweep = spec.sweep
    assert sweep is not None  # noqa: S101 - the caller looked
    if not points:
        raise ValueError("excludes every combination; loosen it")
    slots = slots_of(sweep, spec.resources)
    places = rules.places(draft, state.nodes.values())
    runners = rules.runners_wanted(sweep, waiting=points, slots=slots, rack_places=places, working=0)
    speed = store.look(lambda connection: _earlier_speed(connection, spec, owner))
    workers = runners * slots
    duration_s = points / (speed * workers) if speed and workers else None
    return {
        "points": points,
        "factors": [len(axis.values) for axis in sweep.axes] if sweep.search.kind == "grid" else [],
        "left_out": _left_out(sweep, points),
        "runners": runners,
        "workers": workers,
        "chunks": _chunks(spec, points, duration_s, runners),
        "duration_s": duration_s,
    }


def _left_out(sweep: SweepSpec, points: int) -> int:
    return max(0, point_numbers(sweep) - points) if sweep.search.kind == "grid" else 0


def _earlier_speed(connection: sqlite3.Connection, spec: JobSpec, owner: str) -> float | None:
    """Points a second of one worker, as the latest sweep of this owner with the same target measured it."""
    assert spec.sweep is not None  # noqa: S101
    for earlier, progress in ledger.sweeps_where(connection, "owner = ?", (owner,), EARLIER_MAX):
        if earlier.sweep.target == spec.sweep.target and progress.done and progress.speeds:
            return sum(progress.speeds.values()) / len(progress.speeds)
    return None


def _chunks(spec: JobSpec, points: int, duration_s: float | None, runners: int) -> int | None:
    """About how many chunks there will be; None where nothing tells."""
    assert spec.sweep is not None  # noqa: S101
    chunking = spec.sweep.chunking
    if chunking.points_max is not None and chunking.points_min == chunking.points_max:
        return math.ceil(points / chunking.points_max)
    if duration_s is None:
        return None
    # As chunks grow with the sweep's age, a runner gets about one for each tenth of it: see sweep_sizes.target_s.
    age_s, found = 0.0, 0
    while age_s < duration_s and found < points:
        age_s += sizes.target_s(chunking, age_s)
        found += 1
    return max(1, min(points, found * max(1, runners)))
