"""Paired measuring: contenders take turns, so that a slow minute of the machine hits all of them alike.

Figures are medians with the smallest and largest value. A ratio is the median of the ratios inside each round, which is
what can be believed on a shared machine; absolute figures drift.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class CannotMeasureError(Exception):
    """A contender is not to be had on this machine; the message says why. The others are measured all the same."""


@dataclass(frozen=True)
class Contender:
    """One thing to measure: `measure` returns the figure of one round."""

    name: str
    measure: Callable[[], float]


@dataclass
class Row:
    """What one contender came to."""

    name: str
    unit: str
    values: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)


@dataclass
class Report:
    """The figures of one benchmark."""

    title: str
    rows: list[Row] = field(default_factory=list)
    reference: str | None = None

    def add(self, name: str, unit: str, values: Sequence[float], note: str = "") -> None:
        """A row that was not measured in turns."""
        self.rows.append(Row(name, unit, list(values), note))

    def skip(self, name: str, reason: str) -> None:
        """A contender that could not be measured, with the reason."""
        self.rows.append(Row(name, "", note=f"not measured: {reason}"))

    def take_turns(self, contenders: Sequence[Contender], unit: str, rounds: int, warm_ups: int = 1) -> None:
        """Measure all contenders once a round. One that fails is dropped with its reason; the rest goes on."""
        rows = {contender.name: Row(contender.name, unit) for contender in contenders}
        failed: set[str] = set()
        for number in range(-warm_ups, rounds):
            say(f"{self.title}: {'warm-up' if number < 0 else f'round {number + 1} of {rounds}'}")
            for contender in contenders:
                if contender.name in failed:
                    continue
                try:
                    value = contender.measure()
                except (CannotMeasureError, OSError, TimeoutError) as error:
                    failed.add(contender.name)
                    rows[contender.name].note = f"failed: {error}"
                    continue
                say(f"  {contender.name}: {show(value)} {unit}")
                if number >= 0:
                    rows[contender.name].values.append(value)
        self.rows.extend(rows.values())

    def ratio(self, row: Row) -> float | None:
        """The median over the rounds of this row against the reference; None where they were not paired."""
        reference = next((other for other in self.rows if other.name == self.reference), None)
        if (
            reference is None
            or reference is row
            or len(reference.values) != len(row.values)
            or reference.unit != row.unit
        ):
            return None
        return statistics.median(mine / theirs for mine, theirs in zip(row.values, reference.values, strict=True))

    def table(self) -> str:
        """The figures as a Markdown table, as docs/performance.md has them."""
        against = f" | against {self.reference}" if self.reference else ""
        lines = [
            f"### {self.title}",
            "",
            f"| | median (min-max){against} |",
            "| --- | ---" + (" | ---" if against else "") + " |",
        ]
        for row in self.rows:
            figure = row.note
            if row.values:
                spread = f" ({show(min(row.values))}-{show(max(row.values))})" if len(row.values) > 1 else ""
                figure = f"{show(row.median)} {row.unit}{spread}" + (f"; {row.note}" if row.note else "")
            ratio = self.ratio(row)
            last = f" | {ratio:.2f}" if ratio is not None else " |" if against else ""
            lines.append(f"| {row.name} | {figure}{last} |")
        return "\n".join(lines)


def show(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def say(text: str) -> None:
    """Progress, on stderr; tables alone go to stdout."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load1": os.getloadavg()[0],
    }


def write(reports: Sequence[Report], path: Path) -> None:
    """All reports as JSON."""
    content = {
        "machine": machine(),
        "reports": [
            {
                "title": report.title,
                "reference": report.reference,
                "rows": [{**vars(row), "ratio": report.ratio(row)} for row in report.rows],
            }
            for report in reports
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def wait_for(condition: Callable[[], bool], what: str, limit_s: float, every_s: float = 0.002) -> None:
    """Wait until `condition()`; raises TimeoutError naming `what`."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{what} did not happen within {limit_s:.0f} s")
        time.sleep(every_s)


def stamp_of(path: Path, limit_s: float = 60.0) -> float:
    """The Unix time that a job wrote into a file as its first act."""

    def written() -> bool:
        try:
            return path.read_text().endswith("\n")
        except FileNotFoundError:
            return False

    wait_for(written, f"the first line in {path.name}", limit_s)
    return float(path.read_text())
