"""(e) How long the commands take to start: what a person waits for each time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench import ours
from tests.bench.harness import Contender, Report
from tests.bench.peers import plain, slurm
from tests.bench.setting import Setting, leaving_out

FLOOR = "python -c pass"


def timed(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Callable[[], float]:
    """A function that runs a command and returns its seconds."""

    def measure() -> float:
        started_s = time.monotonic()
        subprocess.run(command, check=True, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL)
        return time.monotonic() - started_s

    return measure


def run(setting: Setting) -> list[Report]:
    """Against a controller on the same machine, so that no network is in it."""
    report = Report("Start-up of the commands (s)", reference=FLOOR)
    rounds = setting.rounds * 2
    with ours.running(setting.folder / "racksack", {"here": ours.local_node(64)}) as rack:
        here = {"RACKSACK_CONTROLLER": str(rack.spool)}
        contenders = [
            Contender(FLOOR, timed([sys.executable, "-c", "pass"])),
            Contender("racksack --help", timed([ours.COMMANDS / "racksack", "--help"])),
            Contender("submit --help", timed([ours.COMMANDS / "submit", "--help"])),
            Contender("racksack status", timed([ours.COMMANDS / "racksack", "status"], here)),
            Contender("racksack status --json", timed([ours.COMMANDS / "racksack", "status", "--json"], here)),
        ]
        with peers(setting, report) as others:
            report.take_turns([*contenders, *others], "s", rounds, warm_ups=2)
    return [report]


@contextlib.contextmanager
def peers(setting: Setting, report: Report) -> Iterator[list[Contender]]:
    """squeue and tsp, where they are to be had."""
    with contextlib.ExitStack() as stack:
        found = []
        if setting.wants("slurm"):
            with leaving_out(report, "Slurm"):
                batch = stack.enter_context(slurm.running(setting.folder / "slurm"))
                found.append(Contender("squeue", timed(["squeue"], batch.environment)))
        if setting.wants("task-spooler"):
            with leaving_out(report, "task-spooler"):
                spooler = stack.enter_context(plain.task_spooler(setting.folder / "task-spooler"))
                found.append(Contender("tsp", timed(["tsp"], spooler.environment)))
        yield found
