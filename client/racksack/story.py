"""One job's whole story as text, for `racksack status ID`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from racksack import not_brought
from racksack.arrays import label
from racksack.ends import explained
from racksack.text import clean, gpu_text, kwh_text, paint, short_local, state_colour
from racksack.views import Energy, JobDetails
from racksack_jobspecs.units import format_cpus, format_duration, format_memory


def story(job: JobDetails, last_words: str = "") -> str:
    """All that is known about a job. last_words: of its stderr, when it failed."""
    return "\n".join([*_head(job, last_words), *_attempts(job), *_events(job)])


def _head(job: JobDetails, last_words: str) -> Iterator[str]:
    state = paint(job.state.upper(), state_colour(job.state))
    element = f", {label(job)}" if job.array_index is not None else ""
    yield f"Job {job.id}{element} ({clean(job.name)}) of {clean(job.owner)}: {state}" + (
        f" on {clean(job.node)}" if job.node else ""
    )
    reason = job.outcome_reason if job.is_final else job.why
    if reason:
        yield f"  {clean(explained(reason))}"
    if last_words:
        yield f"  stderr    {last_words}"
    yield f"  runs      {clean(job.entrypoint or '-')} {clean(' '.join(map(str, job.spec.get('args') or [])))}".rstrip()
    each = f"{job.gang} nodes, on each " if job.gang > 1 else ""
    asked = f"{format_cpus(job.cpus)} CPU, {format_memory(job.ram_bytes)} RAM{_gpus(job.gpus)}{_limit(job)}"
    yield f"  asked     {each}{asked}"
    if job.ram_peak_bytes is not None:
        yield f"  used      {format_memory(job.ram_peak_bytes)} RAM at most, {job.cpu_s or 0:.1f} s of CPU"
    if job.energy is not None and job.energy.kwh is not None:
        yield f"  energy    {energy_text(job.energy)}"
    yield f"  submitted {short_local(job.submitted_at_s)}{_times(job)}"
    if job.exit_code is not None:
        yield f"  exit code {job.exit_code}"
    if job.output_bytes is not None:
        fetched = "fetched" if job.fetched else "not fetched yet"
        yield f"  output    {format_memory(job.output_bytes)} ({fetched})"
    if job.checkpoint is not None:
        one = job.checkpoint
        which = f"checkpoint {clean(one.get('number'))} of attempt {clean(one.get('attempt'))}"
        size, taken = format_memory(int(one.get("bytes", 0))), short_local(float(one.get("taken_at_s", 0.0)))
        yield f"  saved     {which}, {size}, {taken}"
    yield from (f"  {line}" for line in not_brought.lines(job.id, job.outputs))


def _limit(job: JobDetails) -> str:
    limit_s = job.spec.get("time_limit_s")
    return f", {format_duration(limit_s)} at most" if isinstance(limit_s, int | float) else ""


def energy_text(energy: Energy) -> str:
    """`0.123 kWh, 0.04 (estimate)`."""
    cost = "" if energy.cost is None else f", costs {energy.cost:.2f}"
    return f"{kwh_text(energy.kwh)}{cost}{' (estimate)' if energy.is_estimate else ''}"


def _gpus(gpus: Any) -> str:  # noqa: ANN401
    return f", {clean(gpu_text(gpus))} GPU" if gpus else ""


def _times(job: JobDetails) -> str:
    text = f", started {short_local(job.started_at_s)}" if job.started_at_s else ""
    if job.started_at_s:
        text += f", ran {format_duration(max(0.0, (job.ended_at_s or time.time()) - job.started_at_s))}"
    return text + (f", ended {short_local(job.ended_at_s)}" if job.ended_at_s else "")


def _attempts(job: JobDetails) -> Iterator[str]:
    if job.attempts:
        yield "Attempts"
    for attempt in job.attempts:
        number = clean(attempt.get("attempt", attempt.get("number", "?")))
        number += f" rank {clean(attempt['rank'])}" if attempt.get("ranks", 1) != 1 else ""
        words = [clean(attempt[key]) for key in ("state", "node", "outcome", "reason") if attempt.get(key)]
        yield f"  {number}  {'  '.join(words)}"


def _events(job: JobDetails) -> Iterator[str]:
    if job.events:
        yield "Events"
    for event in job.events:
        at_s = event.get("at_s")
        rest = [clean(value) for key, value in event.items() if key != "at_s" and value not in (None, "", [], {})]
        yield f"  {short_local(at_s) if isinstance(at_s, int | float) else '-':<11}  {'  '.join(rest)}"
