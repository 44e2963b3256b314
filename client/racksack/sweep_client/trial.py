"""`racksack sweep run --try`: the first points are computed, then it is said how long all take, and asked.

The sweep is submitted as it is and stopped after about a point for each worker, so nothing is computed twice.
"""

from __future__ import annotations

import time

import click

from racksack.client import Client
from racksack.submission import submission
from racksack.sweep_client.text import plan_text
from racksack.text import say
from racksack.views import SweepView
from racksack_jobspecs.spec import JobSpec

ENOUGH_S = 10.0  # after the first result: nodes that are not there by then are not waited for
EVERY_S = 0.5


def tried(client: Client, number: int, spec: JobSpec, workers: int, *, yes: bool, quiet: bool) -> None:
    """Have the first points computed, say what was measured, and ask whether to go on; with `yes` only say it.

    A sweep that is not to go on, or whose trial was interrupted, is cancelled. Raises click.Abort, KeyboardInterrupt.
    """
    try:
        view = _first_points(client, number, workers, quiet=quiet)
        if view.is_final:
            return
        if not yes:
            view = _stopped(client, number)
        plan = submission.check_plan(client, spec).sweep
        if plan is not None and not (yes and quiet):
            say(f"{plan_text(plan, '')}; {_so_far(view)}")
        if not yes:
            click.confirm("Go on?", abort=True, err=True)
            client.act_on_sweep(number, "resume")
    except (click.Abort, KeyboardInterrupt):
        client.act_on_sweep(number, "cancel", reason="declined after its first points")
        say(f"sweep {number} is cancelled; what it computed is kept for the next one")
        raise


def _first_points(client: Client, number: int, workers: int, *, quiet: bool) -> SweepView:
    """Wait for a point of each worker, or for those that come soon after the first."""
    give_up_s = told = None
    while True:
        view = client.sweep(number)
        settled, wanted = view.done + view.failed + view.to_retry, min(workers, view.points)
        if settled and give_up_s is None:
            give_up_s = time.monotonic() + ENOUGH_S
        is_enough = settled >= wanted or (give_up_s is not None and time.monotonic() > give_up_s)
        if is_enough or view.is_final or view.state == "stopped":
            return view
        if settled != told and not quiet:
            say(f"trying sweep {number}: {settled} of {wanted} points")
        told = settled
        time.sleep(EVERY_S)


def _stopped(client: Client, number: int) -> SweepView:
    """Stop it, and wait until what was under way has been counted."""
    client.act_on_sweep(number, "stop", reason="its first points are computed; is asked whether to go on")
    view = client.sweep(number)
    while view.runners and not view.is_final:
        view = client.sweep(number, seen=view.state, wait_s=EVERY_S)
    return view


def _so_far(view: SweepView) -> str:
    failing = view.failed + view.to_retry
    if not failing:
        return f"{view.done:,} of them are done"
    return f"{view.done:,} of them are done, {failing:,} failed (racksack sweep points {view.id} --failed)"
