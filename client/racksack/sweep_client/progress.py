"""Follows a sweep: a bar with rate, time left and the best point on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time

from racksack.client import Client
from racksack.errors import RacksackError, UnreachableError, WaitTimeoutError
from racksack.sweep_client.text import number_text, sweep_line
from racksack.text import clean, say, use_colour
from racksack.views import SweepView
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import format_duration

EVERY_S = 1.0
LINES_EVERY_S = 10.0
PATIENCE_S = 600.0  # so long an unreachable controller is waited for


def follow(client: Client, number: int, *, quiet: bool = False) -> int:
    """Show how a sweep goes on until it is over; the exit code says how. Ctrl-C leaves the sweep alone."""
    try:
        is_plain = quiet or not use_colour(sys.stderr)
        view = _lines(client, number, quiet=quiet) if is_plain else _bar(client, number)
    except KeyboardInterrupt:
        say(f"sweep {number} goes on: `racksack sweep status {number}` shows it, `... stop {number}` stops it")
        raise
    _tell_end(view)
    return exit_code(view)


def wait(client: Client, number: int, timeout_s: float | None = None) -> SweepView:
    """Wait until a sweep is over, or stopped. Raises WaitTimeoutError."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    view = client.sweep(number)
    while not view.is_final and view.state != "stopped":
        left = 20.0 if deadline is None else min(20.0, deadline - time.monotonic())
        if left <= 0:
            raise WaitTimeoutError(f"sweep {number} is not over after {format_duration(timeout_s or 0)}; it goes on")
        view = client.sweep(number, seen=view.state, wait_s=max(0.1, left))
    return view


def exit_code(view: SweepView) -> ExitCode:
    """Done: 0, or 8 where points failed; else as for jobs."""
    codes = {"failed": ExitCode.JOB_FAILED, "cancelled": ExitCode.JOB_CANCELLED}
    if view.state == "done":
        return ExitCode.PARTIAL if view.failed else ExitCode.OK
    return codes.get(view.state, ExitCode.OK)


def _patiently(client: Client, number: int, seen: str | None, wait_s: float) -> SweepView:
    """A sweep's state, waiting for a controller that is being restarted."""
    began_s = time.monotonic()
    while True:
        try:
            return client.sweep(number, seen=seen, wait_s=wait_s)
        except UnreachableError as error:
            if time.monotonic() - began_s > PATIENCE_S:
                raise
            say(f"{clean(error)}; waiting for it")
            time.sleep(2.0)


def _lines(client: Client, number: int, *, quiet: bool) -> SweepView:
    view = _patiently(client, number, None, 0)
    while not view.is_final and view.state != "stopped":
        if not quiet:
            say(sweep_line(view))
        view = _patiently(client, number, view.state, LINES_EVERY_S)
    return view


def _bar(client: Client, number: int) -> SweepView:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        view = _patiently(client, number, None, 0)
        task = bars.add_task(f"sweep {number}", total=view.points, facts="")
        while True:
            what = f"sweep {number} {'control' if view.run == 'control' else ''}".strip()
            facts = f"{_facts(view)}{_best(client, view)}"
            bars.update(task, description=what, total=view.points, completed=view.done + view.failed, facts=facts)
            if view.is_final or view.state == "stopped":
                return view
            view = _patiently(client, number, view.state, EVERY_S)


def _facts(view: SweepView) -> str:
    return sweep_line(view).partition(", ")[2]


def _best(client: Client, view: SweepView) -> str:
    if not view.done:
        return ""
    try:
        best = client.sweep_top(view.id, n=1, run=view.run)
    except RacksackError:
        return ""  # the bar is not worth an end
    return f"  best {clean(best.by)} {number_text(best.rows[0].value)}" if best.rows else ""


def _tell_end(view: SweepView) -> None:
    took = f" in {format_duration(view.took_s)}" if view.took_s is not None else ""
    failed = f", {view.failed:,} failed (racksack sweep points {view.id} --failed)" if view.failed else ""
    reason = f": {clean(view.reason)}" if view.reason else ""
    what = f"all {view.points_total:,} points, control run " if view.run == "control" else ""
    say(f"sweep {view.id} {view.state}{took}: {what}{view.done:,} of {view.points:,} points done{failed}{reason}")
