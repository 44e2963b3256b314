"""What is told about a sweep, a job, a node: one sentence, a key that is its own, and the facts for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from racksack_controller.core.records import Job, Node
from racksack_controller.core.sweeps.records import CONTROL, Progress, Sweep
from racksack_jobspecs.states import JobState
from racksack_jobspecs.units import format_duration

SENTENCE_CHARS_MAX = 1000
LISTED_MAX = 10  # sentences of a digest
ENDS = {JobState.DONE: "done", JobState.CANCELLED: "cancelled"}  # all others are failures

Facts = dict[str, Any]


def end_of(job: Job) -> str:
    """How a job ended, in the words of `when`: done, failed or cancelled."""
    return ENDS.get(job.state, "failed")


def of_job(job: Job, web_address: str) -> Facts:
    """A job has ended."""
    reason = f": {job.reason}" if job.reason else ""
    return {
        "key": f"job:{job.key or job.id}:{job.attempt}:{job.state}",
        "event": "job",
        "sentence": one_line(f"job {job.id} ({job.spec.name}) {job.state}{reason}"),
        "job": job.id,
        "name": job.spec.name,
        "owner": job.owner,
        "state": str(job.state),
        "reason": job.reason,
        "array": job.array_id,
        "array_index": job.array_index,
        "submitted_at_s": job.submitted_at_s,
        "ended_at_s": job.ended_at_s,
        "url": f"{web_address}jobs/{job.id}" if web_address else None,
    }


def of_sweep(sweep: Sweep, progress: Progress, best: Facts | None, web_address: str) -> Facts:
    """A sweep has ended."""
    took_s = (
        progress.ended_at_s - progress.started_at_s
        if progress.ended_at_s and progress.started_at_s is not None
        else None
    )
    return {
        "key": f"sweep:{sweep.key or sweep.id}:{progress.state}:{progress.ended_at_s or 0:.0f}",
        "event": "sweep",
        "sentence": one_line(_sweep_sentence(sweep, progress, best, took_s)),
        "sweep": sweep.id,
        "name": sweep.spec.name,
        "owner": sweep.owner,
        "state": str(progress.state),
        "reason": progress.reason,
        "points": progress.points,
        "done": progress.done,
        "failed": progress.failed,
        "run": "control" if progress.run == CONTROL else "main",
        "took_s": took_s,
        "metric": sweep.sweep.metrics[0].name,
        "best": best,
        "url": f"{web_address}sweeps/{sweep.id}" if web_address else None,
    }


def _sweep_sentence(sweep: Sweep, progress: Progress, best: Facts | None, took_s: float | None) -> str:
    took = f" in {format_duration(took_s)}" if took_s is not None else ""
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    reason = f": {progress.reason}" if progress.reason else ""
    points = f"{progress.done:,} of {progress.points:,} points"
    if progress.run == CONTROL:
        points = f"all {sweep.points_total:,} points, control run {points}"
    text = f"sweep {sweep.id} ({sweep.spec.name}) {progress.state}{took}: {points}"
    if best is not None:
        params = ", ".join(f"{name}={value}" for name, value in best["params"].items())
        failed += f"; best {sweep.sweep.metrics[0].name} {best['value']:.6g} at {params}"
    return f"{text}{failed}{reason}"


def of_node(node: Node, what: str, sentence: str, at_s: float, web_address: str) -> Facts:
    """Something about a node that its owner should know: `what` is set_aside, lost or gpu."""
    return {
        "key": f"node:{node.name}:{what}:{at_s:.0f}:{sentence[:100]}",
        "event": what,
        "sentence": one_line(f"{node.name}: {sentence}"),
        "node": node.name,
        "at_s": at_s,
        "url": f"{web_address}nodes/{node.name}" if web_address else None,
    }


def of_crash(at_s: float) -> Facts:
    """The controller was started after it had ended without being stopped."""
    return {
        "key": f"controller:crash:{at_s:.0f}",
        "event": "controller",
        "sentence": "the controller was restarted after a crash, a kill or a power cut; running jobs continue",
        "at_s": at_s,
    }


def digest(notices: Sequence[Facts]) -> Facts:
    """Several notices as one: how many of what, then the first of them."""
    counts: dict[str, int] = {}
    for one in notices:
        kind = f"{one['event']} {one['state']}" if one.get("state") else str(one["event"])
        counts[kind] = counts.get(kind, 0) + 1
    head = ", ".join(f"{count} x {kind}" for kind, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    lines = [str(one["sentence"]) for one in notices[:LISTED_MAX]]
    more = [f"... and {len(notices) - LISTED_MAX} more"] if len(notices) > LISTED_MAX else []
    return {
        "key": f"digest:{notices[0]['key']}:{len(notices)}",
        "event": "digest",
        "sentence": "\n".join([f"{len(notices)} notices: {head}", *lines, *more]),
        "notices": list(notices),
    }


def one_line(text: str) -> str:
    """On one line and without control characters, whatever names and parameters hold."""
    return "".join(char if char.isprintable() else " " for char in text)[:SENTENCE_CHARS_MAX]
