"""Workloads to replay: the Standard Workload Format (SWF 2.2) and Batsim's job tables.

SWF: https://www.cs.huji.ac.il/labs/parallel/workload/swf.html. A -1 means unknown: requested processors then come from
the allocated ones, the requested time from the run time; a job without a run time did not run and is left out.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from racksack_controller.core.records import Job

_FIELDS = 18

_NUMBER_MAX = 2.0**53


class Task(msgspec.Struct, frozen=True):
    """One job of a workload. Times in seconds from its start."""

    number: int
    submit_s: float
    run_s: float
    limit_s: float  # the user's estimate
    processors: float
    user: str = "user"
    program: str = "program"
    ram_bytes: int = 0  # per processor
    priority: int = 0
    job: Job | None = None  # of our own history: all that it asked for


class WorkloadError(Exception):
    """A file is not a workload; the message says where and why."""


def read(path: Path) -> list[Task]:
    """The tasks of a `.swf` or `.csv` file, plain or gzipped, by submit time. Raises WorkloadError, OSError."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    text = raw.decode("utf-8", "replace")
    suffix = ".csv" if ".csv" in path.name else ".swf"
    tasks = list(parse_batsim(text) if suffix == ".csv" else parse_swf(text.splitlines()))
    if not tasks:
        raise WorkloadError(f"{path.name} has no job that ran; is it a workload in Standard Workload Format?")
    return sorted(tasks, key=lambda task: (task.submit_s, task.number))


def parse_swf(lines: Iterable[str]) -> Iterator[Task]:
    """The jobs of an SWF file that ran. Raises WorkloadError with the line's number."""
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        try:
            fields = [_number(word) for word in line.split()]
        except ValueError as error:
            raise WorkloadError(f"line {number} is not a job of an SWF file: {error}") from error
        if len(fields) < _FIELDS:
            raise WorkloadError(f"line {number} has {len(fields)} fields; a job of an SWF file has {_FIELDS}")
        task = _task(fields)
        if task is not None:
            yield task


def _number(word: str) -> float:
    """Raises ValueError, also for what no simulation can count with."""
    number = float(word)
    if not abs(number) <= _NUMBER_MAX:
        raise ValueError(f"{word[:40]} is no number that can be meant")
    return number


def _task(fields: list[float]) -> Task | None:
    run_s = fields[3]
    processors = fields[7] if fields[7] > 0 else fields[4]
    if run_s <= 0 or processors <= 0:
        return None
    return Task(
        number=int(fields[0]),
        submit_s=fields[1],
        run_s=run_s,
        limit_s=fields[8] if fields[8] > 0 else run_s,
        processors=int(processors),
        user=f"user{fields[11]:.0f}",
        program=f"program{fields[13]:.0f}",
        ram_bytes=int(max(0.0, fields[9]) * 1024),
        priority=0,
    )


def parse_batsim(text: str) -> Iterator[Task]:
    """The jobs of a Batsim `out_jobs.csv`. Raises WorkloadError with the line's number."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            task = _batsim_task(row)
            if task.run_s > 0:
                yield task
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise WorkloadError(f"line {rows.line_num} is not a job of a Batsim table: {error!r}") from error


def _batsim_task(row: dict[str, str]) -> Task:
    return Task(
        number=int(_number(row["job_id"])),
        submit_s=_number(row["submission_time"]),
        run_s=_number(row["execution_time"]),
        limit_s=_number(row["requested_time"]),
        processors=int(_number(row["requested_number_of_resources"])),
    )
