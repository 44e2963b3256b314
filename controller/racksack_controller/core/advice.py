"""What a program could ask for instead, from what its last runs used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from racksack_controller.core.queue.history import History, RunHistory, RunUse, history_key_of
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState
from racksack_jobspecs.units import format_cpus, format_duration, format_memory

RUNS_MIN = 3  # fewer tell too little
SPARE = 1.25  # what is advised is this much above the most that was seen
MUCH = 2.0  # advice is given when asked was at least so many times what would do
MEMORY_STEP = 2**28
MEMORY_MIN = 2**30  # savings below this are not worth a line
LONG_S = 10.0  # shorter runs tell nothing about CPUs
TIME_MUCH, TIME_SPARE, TIME_MIN_S = 4.0, 1.5, 3600.0


def advise(history: History, owner: str, spec: JobSpec) -> tuple[str, ...]:
    """Sentences for the owner of a job that asks for more, or less, than its program's last runs needed."""
    record = history.records.get(history_key_of(owner, spec))
    if record is None or len(record.uses) < RUNS_MIN:
        return ()
    return tuple(_sentences(record, record.uses, spec))


def _sentences(record: RunHistory, uses: Sequence[RunUse], spec: JobSpec) -> Iterator[str]:
    runs = f"the last {len(uses)} runs of {record.entrypoint}"
    yield from _memory(uses, spec, runs)
    yield from _cpus(uses, spec, runs)
    yield from _time(uses, spec, runs)


def _memory(uses: Sequence[RunUse], spec: JobSpec, runs: str) -> Iterator[str]:
    asked = spec.resources.ram_bytes
    short = [use for use in uses if use.outcome is JobState.OOM and use.ram_bytes >= asked]
    if short:
        enough = _memory_above(max(use.ram_bytes for use in short) * 1.5)
        count = f"{len(short)} of {runs}"
        yield f"{count} ran out of memory with {format_memory(asked)} or more; try --ram {format_memory(enough)}"
        return
    if any(use.ram_peak_bytes is None or use.outcome is JobState.OOM for use in uses):
        return
    peak = max(use.ram_peak_bytes or 0 for use in uses)
    enough = _memory_above(peak * SPARE)
    if asked >= MUCH * enough and asked - enough >= MEMORY_MIN:
        yield (
            f"{runs} peaked at {format_memory(peak)} of {format_memory(asked)} asked;"
            f" --ram {format_memory(enough)} would do"
        )


def _memory_above(size_bytes: float) -> int:
    """Whole GiB, below 1 GiB quarters of it."""
    step = MEMORY_STEP if size_bytes < MEMORY_MIN else MEMORY_MIN
    return max(1, math.ceil(size_bytes / step)) * step


def _cpus(uses: Sequence[RunUse], spec: JobSpec, runs: str) -> Iterator[str]:
    asked = spec.resources.cpus
    busy = [use.cpu_s / use.run_s for use in uses if use.run_s >= LONG_S and use.cpu_s is not None]
    if len(busy) < RUNS_MIN:
        return
    enough = max(1, math.ceil(max(busy) * SPARE))
    if asked >= MUCH * enough:
        yield (f"{runs} kept {max(busy):.1f} of {format_cpus(asked)} CPUs busy on average; --cpus {enough} would do")


def _time(uses: Sequence[RunUse], spec: JobSpec, runs: str) -> Iterator[str]:
    limit = spec.time_limit_s
    longest = max(use.run_s for use in uses)
    if limit is None or limit < TIME_MIN_S or limit < TIME_MUCH * longest:
        return
    enough = max(60.0, math.ceil(longest * TIME_SPARE / 60.0) * 60.0)
    yield (
        f"{runs} took {format_duration(longest)} at most of {format_duration(limit)} allowed;"
        f" with --time-limit {format_duration(enough)} it may start earlier, beside larger jobs that wait"
    )
