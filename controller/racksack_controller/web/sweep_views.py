"""Sweeps as the API and the page show them: plain values, units last. No I/O."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from racksack_controller.core.sweeps.records import CONTROL, InRam, NodeBackoff, Progress, Sweep
from racksack_controller.sweeps.active import Active, RunnerAttempt, slots_of
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_controller.web.views import View, gpu_text
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, Target
from racksack_jobspecs.sweep.states import SWEEP_FINAL, SweepState
from racksack_jobspecs.units import format_duration, format_memory

_AS_JOB = {
    SweepState.RUNNING: "running",
    SweepState.STOPPED: "held",
    SweepState.DONE: "done",
    SweepState.FAILED: "failed",
    SweepState.CANCELLED: "cancelled",
}


def sweep_view(sweep: Sweep, progress: Progress, active: Active | None, now: float, pace: float | None = None) -> View:
    """A sweep with how far it is. `active`: what is in memory of one that is not over; `pace`: points a second as the
    clock has it, in place of what the speeds of its workers add up to.
    """
    spec = sweep.sweep
    points = progress.points
    settled = progress.done + progress.failed
    runners = list(active.runners.values()) if active is not None else []
    leased = sum(lease.left.size for lease in active.leases.values()) if active is not None else 0
    slots = functools.partial(slots_of, spec, sweep.spec.resources)
    ready = [runner for runner in runners if is_ready(runner)]
    rate = pace or rate_points_s(progress, ready, slots)
    is_moving = progress.state is SweepState.RUNNING and rate > 0
    wants = sweep.spec.resources
    return {
        "id": sweep.id,
        "name": sweep.spec.name,
        "owner": sweep.owner,
        "state": str(progress.state),
        "reason": progress.reason,
        "run": "control" if progress.run == CONTROL else "main",
        "space": space_text(spec),
        "target": target_text(spec.target),
        "target_public": spec.target.argv[0] if spec.target.kind == "program" else target_text(spec.target),
        "search": spec.search.kind,
        "where": spec.where,
        "metric": {"name": spec.metrics[0].name, "direction": spec.metrics[0].direction},
        "metrics": [{"name": one.name, "direction": one.direction} for one in spec.metrics],
        "points_total": sweep.points_total,
        "main_failed": progress.main_failed if progress.run == CONTROL else progress.failed,
        "points": points,
        "done": progress.done,
        "failed": progress.failed,
        "reused": progress.reused,
        "stopped_early": progress.stopped,
        "under_way": leased,
        "to_retry": len(active.tries) if active is not None else 0,
        "percent": 100.0 * settled / points if points else 100.0,
        "rate_points_s": rate if is_moving else None,
        "eta_s": max(0, points - settled) / rate if is_moving else None,
        "workers": sum(slots(runner.node) for runner in ready),
        "runners": len(runners),
        "chunks": progress.chunks,
        "nodes": _nodes(active, progress, slots, now) if active is not None else [],
        "cpus": wants.cpus,
        "ram_bytes": wants.ram_bytes,
        "gpus": gpu_text(wants),
        "priority": sweep.spec.priority,
        "project": sweep.spec.project,
        "entrypoint": sweep.spec.entrypoint,
        "snapshot": sweep.snapshot,
        "submitted_at_s": sweep.submitted_at_s,
        "started_at_s": progress.started_at_s,
        "ended_at_s": progress.ended_at_s,
        "took_s": (progress.ended_at_s or now) - progress.started_at_s if progress.started_at_s else None,
    }


def is_ready(runner: RunnerAttempt) -> bool:
    """Whether its workers are up; what it has told before a restart of the controller says so, too."""
    return runner.is_ready or runner.position > 0


def rate_points_s(progress: Progress, ready: list[RunnerAttempt], slots: Callable[[str], int]) -> float:
    """What the runners that are up compute in a second, by their measured speeds. `slots`: workers of one on a node."""
    found = 0.0
    for runner in ready:
        speed = next((progress.speeds[name] for name in runner.names if name in progress.speeds), 0.0)
        found += speed * slots(runner.node)
    return found


def _nodes(active: Active, progress: Progress, slots: Callable[[str], int], now: float) -> list[View]:
    """What each node does for a sweep, or why it does nothing."""
    names = (*progress.backoffs, *(active.preparing if active.uses_ram else ()))
    views: dict[str, View] = {name: _node_view(name) for name in names}
    for runner in active.runners.values():
        view = views.setdefault(runner.node, _node_view(runner.node))
        view["runners"] += 1
        if is_ready(runner):
            view["workers"] += slots(runner.node)
            view["rate_points_s"] += rate_points_s(progress, [runner], slots)
        for lease in active.leases_of(runner.attempt):
            view["under_way"] += lease.left.size
            view["chunks"].append(
                {"chunk": lease.chunk.number, "left": lease.left.size, "handed_at_s": lease.chunk.handed_at_s}
            )
    for name, view in views.items():
        if active.uses_ram and (view["runners"] or name in active.preparing):
            view["ram"] = _ram_view(progress.in_ram.get(name), is_up=view["workers"] > 0)
        if name in progress.backoffs:
            view["rest"] = _backoff_view(progress.backoffs[name], now)
    return sorted(views.values(), key=lambda view: str(view["node"]))


def _node_view(name: str) -> View:
    return {
        "node": name,
        "runners": 0,
        "workers": 0,
        "under_way": 0,
        "chunks": [],
        "rate_points_s": 0.0,
        "ram": None,
        "rest": None,
    }


def _ram_view(told: InRam | None, *, is_up: bool) -> View:
    """What lies in the memory of a node with runners. `is_up`: one of them works already."""
    if is_up and told is not None and told.checksum:
        sentence = f"in RAM, checked ({format_memory(told.size_bytes)})"
        return {"state": "checked", "bytes": told.size_bytes, "checksum": told.checksum, "sentence": sentence}
    return {"state": "copying", "bytes": 0, "checksum": None, "sentence": "being copied"}


def _backoff_view(backoff: NodeBackoff, now: float) -> View:
    """Why a node has no runner, and when it is tried again."""
    left_s = backoff.until_s - now
    again = f"tried again in {format_duration(left_s)}" if left_s > 0 else "being tried again"
    tries = f" (failed {backoff.failures} times in a row)" if backoff.failures > 1 else ""
    said = f"{backoff.reason}; {again}{tries}"
    return {"reason": backoff.reason, "failures": backoff.failures, "until_s": backoff.until_s, "sentence": said}


def target_text(target: Target) -> str:
    """`backtest.py:evaluate`, or the words of a program."""
    if target.kind == "function":
        return f"{target.file}:{target.name}"
    return " ".join(target.argv) if target.kind == "program" else "a list of jobs"


def space_text(spec: SweepSpec) -> str:
    """`31 x 17`, `500 points by tpe`, `range of 65536 parts`."""
    if spec.range is not None:
        return f"{spec.range.name} from {spec.range.first} to {spec.range.last} in parts of {spec.range.step}"
    if spec.scripts:
        return f"{len(spec.scripts)} job{_s(len(spec.scripts))}"
    if is_drawn(spec):
        return f"{spec.search.count} points by {spec.search.kind}"
    return " x ".join(str(len(axis.values)) for axis in spec.axes)


def axis_text(axis: Axis) -> str:
    """The values of an axis, the ends alone when there are many."""
    values = [str(value) for value in axis.values]
    return ", ".join(values) if len(values) <= 6 else f"{values[0]} to {values[-1]}, {len(values)} values"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def sentence(view: Mapping[str, Any]) -> str:
    """How far a sweep is, for people."""
    settled = f"{view['done'] + view['failed']:,} of {view['points']:,} points"
    parts = [f"{settled} ({view['percent']:.1f}%)"]
    if view["run"] == "control":
        failed = f", {view['main_failed']:,} failed" if view["main_failed"] else ""
        parts[0] = f"all {view['points_total']:,} points{failed}; control run: {parts[0]}"
    if view["failed"]:
        parts.append(f"{view['failed']:,} failed")
    if view["reused"]:
        parts.append(f"{view['reused']:,} from an earlier sweep")
    if view["rate_points_s"]:
        parts.append(f"{view['rate_points_s']:,.3g} points/s on {view['workers']} worker{_s(view['workers'])}")
        parts.append(f"about {format_duration(view['eta_s'])} left")
    elif view["state"] == SweepState.RUNNING:
        parts.append("speed not measured yet" if view["workers"] else "waits for room on a node")
    if view["state"] == SweepState.RUNNING:
        parts += [f"no new runner on {one['node']}: {one['rest']['sentence']}" for one in view["nodes"] if one["rest"]]
    return ", ".join(parts) + (f": {view['reason']}" if view["reason"] else "")


def as_job(sweep: Sweep, progress: Progress, view: View, spool: Spool, *, fetched: bool) -> View:
    """A sweep as a line among jobs: what lists, `wait` and `fetch` need."""
    state = _AS_JOB[progress.state]
    if state == "running" and progress.started_at_s is None:
        state = "queued"
    is_final = progress.state in SWEEP_FINAL
    nodes = ",".join(str(one["node"]) for one in view["nodes"])
    return {
        **{key: view[key] for key in ("id", "name", "owner", "priority", "submitted_at_s", "started_at_s")},
        **{key: view[key] for key in ("ended_at_s", "project", "entrypoint", "snapshot")},
        "state": state,
        "key": sweep.key,
        "epoch": "",
        "node": nodes or None,
        "attempt": 0,
        "cpus": view["cpus"] * max(1, view["runners"]) if not is_final else view["cpus"],
        "ram_bytes": view["ram_bytes"] * max(1, view["runners"]) if not is_final else view["ram_bytes"],
        "gpus": view["gpus"],
        "gang": 1,
        "why": f"sweep: {sentence(view)}",
        "outcome_reason": f"sweep: {sentence(view)}" if is_final else "",
        "exit_code": None,
        "ram_peak_bytes": None,
        "cpu_s": None,
        "output_bytes": None,
        "output_files": None,
        "fetched": fetched,
        "array_id": None,
        "array_index": None,
        "returns": str(spool.returned(sweep.id)),
        "sweep": True,
    }
