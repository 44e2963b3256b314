"""What every benchmark is given: a folder, how often to measure, and what to leave out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.harness import CannotMeasureError, Report, say


@dataclass(frozen=True)
class Setting:
    """One run of the benchmarks."""

    folder: Path  # empty, removed afterwards
    hyperqueue: Path  # HyperQueue's venv
    rounds: int
    without: frozenset[str]  # contenders to leave out: slurm, hyperqueue, ...
    is_quick: bool  # fewer jobs and shorter waits, to see that it works

    def wants(self, contender: str) -> bool:
        """Whether a contender is to be measured."""
        return contender not in self.without


@contextmanager
def leaving_out(report: Report, name: str) -> Iterator[None]:
    """A contender that is not to be had becomes a row that says why, and the rest goes on."""
    try:
        yield
    except (CannotMeasureError, TimeoutError) as error:
        say(f"{name}: {error}")
        report.skip(name, str(error))
