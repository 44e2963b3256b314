"""`racksack simulate`: what a policy would have made of a workload on a rack of your choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Backfill, Policy
from racksack_controller.simulate import invariants
from racksack_controller.simulate.engine import Faults, Outcome, Replay
from racksack_controller.simulate.machines import Layout, Machines, parse_machines
from racksack_controller.simulate.metrics import Metrics, measure
from racksack_controller.simulate.picture import Chart, Line, draw
from racksack_controller.simulate.workload import WorkloadError, read
from racksack_jobspecs.states import ExitCode
from racksack_jobspecs.units import format_duration

POLICIES = {
    "default": DEFAULT,
    "easy": TEXTBOOK_EASY,
    "fcfs": Policy(backfill=Backfill.NONE, predict=False),
    "conservative": Policy(backfill=Backfill.CONSERVATIVE, predict=False),
    "greedy": Policy(backfill=Backfill.GREEDY, predict=False),
    "fair": Policy(fair_share=True),
}
LAYOUTS = [one.value for one in Layout]
LAYOUT_HELP = "How a job's processors lie: on one node, anywhere (pool), or one on each of several nodes (gang)."
POINTS = 600  # of a line in the picture


@click.command(name="simulate")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--nodes", default="16x8", show_default=True, help="The rack: nodes x processors.")
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True, help=LAYOUT_HELP)
@click.option("--policy", "names", default="default,easy", show_default=True, help=f"Of {', '.join(POLICIES)}.")
@click.option("--jobs", "limit", type=click.IntRange(min=1), help="Only the first so many jobs.")
@click.option("--faults", "fault_hours", type=float, default=0.0, help="Mean hours between power losses of a node.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the faults.")
@click.option("--check", is_flag=True, help="Check every invariant at every moment (slow).")
@click.option("--picture", type=click.Path(path_type=Path), help="Write use and waits as SVG.")
def main(
    trace: Path,
    nodes: str,
    layout: str,
    names: str,
    limit: int | None,
    fault_hours: float,
    seed: int,
    check: bool,
    picture: Path | None,
) -> None:
    """Replay TRACE (.swf or a Batsim job table, plain or gzipped) with the scheduler that runs your rack."""
    try:
        machines = parse_machines(nodes, Layout(layout))
        tasks = read(trace)[:limit]
        chosen = _policies(names)
    except (WorkloadError, OSError) as error:
        reason = f"{trace}: {error.strerror}" if isinstance(error, OSError) else str(error)
        click.echo(f"racksack simulate: {reason}", err=True)
        raise SystemExit(ExitCode.USAGE) from error
    faults = Faults(mean_between_s=fault_hours * 3600.0, seed=seed)
    results: dict[str, list[Outcome]] = {}
    click.echo(HEADER)
    for name, policy in chosen.items():
        watch = (lambda state, _now: invariants.check(state)) if check else None
        replay = Replay(tasks, machines, policy, faults=faults, watch=watch)
        results[name] = replay.run()
        click.echo(_row(name, measure(results[name], machines)))
    if replay.left_out:
        click.echo(f"{replay.left_out} jobs were left out: no node has that many processors.", err=True)
    if picture is not None:
        picture.write_text(draw(_charts(results, machines)), encoding="utf-8")


def _policies(names: str) -> dict[str, Policy]:
    wrong = [name for name in names.split(",") if name not in POLICIES]
    if wrong:
        raise WorkloadError(f"there is no policy called {wrong[0]!r}; choose of {', '.join(POLICIES)}")
    return {name: POLICIES[name] for name in names.split(",")}


HEADER = (
    f"{'policy':13}{'jobs':>7}{'mean wait':>11}{'p95':>8}{'p99':>8}{'longest':>9}"
    f"{'slowdown':>10}{'p95':>8}{'busy':>7}{'makespan':>10}{'node-hours':>12}"
)


def _row(name: str, found: Metrics) -> str:
    waits = (found.wait_p95_s, found.wait_p99_s)
    return (
        f"{name:13}{found.jobs:7}{found.wait_mean_s:10.1f}s"
        + "".join(f"{format_duration(wait):>8}" for wait in waits)
        + f"{format_duration(found.wait_max_s):>9}{found.slowdown_mean:10.3f}{found.slowdown_p95:8.1f}"
        + f"{found.utilisation:7.1%}{found.makespan_s / 3600:9.1f}h{found.node_hours_on:12.0f}"
    )


def _charts(results: dict[str, list[Outcome]], machines: Machines) -> list[Chart]:
    busy = [Line(name, _busy(outcomes)) for name, outcomes in results.items()]
    waits = [Line(name, _waits(outcomes)) for name, outcomes in results.items()]
    return [
        Chart(f"Processors in use, of {machines.processors}", "hours", "processors", busy),
        Chart("Jobs that waited no longer", "wait, seconds", "part of all jobs", waits, log_x=True),
    ]


def _busy(outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    """Mean use in equal steps of time."""
    done = [one for one in outcomes if one.started_s is not None and one.ended_s is not None]
    start = np.array([one.started_s for one in done], dtype=np.float64)
    end = np.array([one.ended_s for one in done], dtype=np.float64)
    width = np.array([one.task.processors for one in done], dtype=np.float64)
    edges = np.linspace(start.min(), end.max(), POINTS + 1)
    work = np.zeros(POINTS + 1)  # processor seconds before each edge
    for times, sign in ((start, 1.0), (end, -1.0)):
        order = np.argsort(times)
        at, weights = times[order], width[order] * sign
        count, moment = np.cumsum(np.r_[0.0, weights]), np.cumsum(np.r_[0.0, weights * at])
        place = np.searchsorted(at, edges)
        work += count[place] * edges - moment[place]
    use = np.diff(work) / np.diff(edges)
    hours = (edges[:-1] - edges[0]) / 3600.0
    return list(zip(hours.tolist(), use.tolist(), strict=True))


def _waits(outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    """The distribution of waits; waits below a second stand at one second."""
    waits = sorted(max(1.0, one.started_s - one.task.submit_s) for one in outcomes if one.started_s is not None)
    picks = sorted({round(part * (len(waits) - 1) / POINTS) for part in range(POINTS + 1)})
    return [(waits[pick], (pick + 1) / len(waits)) for pick in picks]
