"""Sweeps and results for tests, as the store and a runner have them."""

from __future__ import annotations

from typing import Any

from racksack_agent.sweep_runner import columns, frames
from racksack_controller.core.sweeps.records import Progress, Sweep
from racksack_controller.sweeps.results.segments import Segment, segment_of, split
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import Axis, SweepSpec, Target, point_numbers


def sweep_spec(points: int = 100, **changes: Any) -> SweepSpec:
    """A sweep of `f.py:f` over x = 0, 1, ..."""
    fields: dict[str, Any] = {
        "target": Target(file="f.py", name="f"),
        "axes": (Axis("x", tuple(range(points))),),
    }
    return SweepSpec(**(fields | changes))


def sweep(number: int = 1, spec: SweepSpec | None = None, **changes: Any) -> Sweep:
    """What was submitted."""
    wanted = spec or sweep_spec()
    job = JobSpec(
        name="demo", project="p", entrypoint="f.py", sweep=wanted, submission=f"ann:{number}",
        resources=ResourceRequest(2.0, 1024**3),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "id": number, "owner": "ann", "spec": job, "snapshot": "0" * 64, "submitted_at_s": 1.0, "code": "c",
        "points_total": point_numbers(wanted),
    }  # fmt: skip
    return Sweep(**(fields | changes))


def progress(of: Sweep, **changes: Any) -> Progress:
    """Of a sweep that has just begun."""
    return Progress(**{"points": of.points_total, "pending": ((0, of.numbers),), **changes})


def ok_frame(chunk: int, points: range | list[int], results: list[dict[str, Any]], seconds: float = 0.01) -> bytes:
    """Results as a worker sends them."""
    from array import array

    parts: list[bytes] = []
    header: dict[str, Any] = {"k": "ok", "c": chunk, "n": len(results)}
    if isinstance(points, range):
        header["lo"] = points.start
    else:
        parts.append(array("q", points).tobytes())
    took = array("f", [seconds] * len(results)).tobytes()
    found = columns.columns(results)
    header.update(t=len(took), cols=[[name, kind, len(data)] for name, kind, data in found])
    return frames.encode(header, b"".join([*parts, took, *(data for _, _, data in found)]))


def segment(points: range | list[int], results: list[dict[str, Any]], seconds: float = 0.01) -> Segment:
    """A segment as it arrives."""
    [(header, body)], _ = split(ok_frame(1, points, results, seconds))
    return segment_of(header, body)


def rows(segments: Any) -> dict[int, dict[str, Any]]:
    """Metrics by point; None and NaN are left out."""
    found: dict[int, dict[str, Any]] = {}
    for one in segments:
        new: dict[int, dict[str, Any]] = {point: {} for point in one.numbers().tolist()}
        assert not set(new) & set(found), "a point counts once"
        for name, column in one.metric_columns():
            for point, value in zip(one.numbers().tolist(), column.tolist(), strict=True):
                if value is not None and value == value:
                    new[point][name] = value
        found |= new
    return found
