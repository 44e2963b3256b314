"""What was drawn and what was saved: the slices and shares of the store as a report. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from racksack_controller.core.state import Job
from racksack_controller.energy.joules import is_estimate, kwh
from racksack_controller.energy.store import JobEnergy, Slice

View = dict[str, Any]


def report(
    slices: Mapping[str, Sequence[Slice]],
    jobs: Iterable[tuple[JobEnergy, Job]],
    since_s: float,
    until_s: float,
    price_per_kwh: float | None,
) -> View:
    """The energy of nodes and jobs since a moment; money only where a price is known."""
    nodes = [_node(name, rows, price_per_kwh) for name, rows in sorted(slices.items())]
    total = _total(nodes, price_per_kwh)
    return {
        "since_s": since_s,
        "until_s": until_s,
        "price_per_kwh": price_per_kwh,
        "nodes": nodes,
        "jobs": [job_energy_view(energy, price_per_kwh) | _named(job) for energy, job in jobs],
        "total": total,
    }


def _named(job: Job) -> View:
    return {"job": job.id, "name": job.spec.name, "owner": job.owner}


def _node(name: str, rows: Sequence[Slice], price: float | None) -> View:
    joules, sensor_j = sum(row.joules for row in rows), sum(row.sensor_j for row in rows)
    idle_j, always_j = sum(row.idle_j for row in rows), sum(row.always_j for row in rows)
    return {
        "node": name,
        "kwh": kwh(joules),
        "idle_kwh": kwh(idle_j),
        "jobs_kwh": kwh(joules - idle_j),
        "measured_kwh": kwh(sensor_j),
        "is_estimate": is_estimate(joules, sensor_j),
        "always_on_kwh": kwh(always_j),
        "saved_kwh": kwh(always_j - joules),
        "on_s": sum(row.on_s for row in rows),
        "known_s": sum(row.known_s for row in rows),
        **_money(joules, always_j, price),
    }


def _money(joules: float, always_j: float, price: float | None) -> View:
    if price is None:
        return {"cost": None, "saved_cost": None}
    return {"cost": price * kwh(joules), "saved_cost": price * kwh(always_j - joules)}


def _total(nodes: Sequence[View], price: float | None) -> View:
    keys = ("kwh", "idle_kwh", "jobs_kwh", "measured_kwh", "always_on_kwh", "saved_kwh", "on_s", "known_s")
    total: View = {key: sum(node[key] for node in nodes) for key in keys}
    total["is_estimate"] = any(node["is_estimate"] for node in nodes)
    total["cost"] = None if price is None else price * total["kwh"]
    total["saved_cost"] = None if price is None else price * total["saved_kwh"]
    return total


def job_energy_view(energy: JobEnergy | None, price_per_kwh: float | None) -> View:
    """What a job used, for its page and its result.json; all None where nothing was metered."""
    if energy is None:
        return {"kwh": None, "is_estimate": None, "cost": None}
    used = kwh(energy.joules)
    return {
        "kwh": used,
        "is_estimate": energy.is_estimate,
        "cost": None if price_per_kwh is None else price_per_kwh * used,
    }
