"""Sweeps as text: how far one is, its best points as a table, its failed ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from racksack.text import clean, counted, iso_local, paint, short_local, state_colour, table
from racksack.views import FailedPoint, Ranking, SweepPlan, SweepView
from racksack_jobspecs.units import format_duration

_HEADER = ("ID", "NAME", "USER", "STATE", "POINTS", "DONE", "FAILED", "RATE", "LEFT", "SUBMITTED", "TARGET")
_RIGHT = ("ID", "POINTS", "DONE", "FAILED", "RATE", "LEFT")


def plan_text(plan: SweepPlan, space: str) -> str:
    """`31 x 17 = 527 points, 9 chunks, about 38 min on 24 workers`."""
    points = counted(plan.points, "point")
    product = " x ".join(map(str, plan.factors)) + " = " if len(plan.factors) > 1 and not plan.left_out else ""
    parts = [f"{product}{points}" if product or not space else f"{space}: {points}"]
    if plan.left_out:
        parts[0] = f"{' x '.join(map(str, plan.factors))} less {plan.left_out:,} = {points}"
    if plan.chunks is not None:
        parts.append(counted(plan.chunks, "chunk"))
    workers = counted(plan.workers, "worker")
    if plan.duration_s is None:
        parts.append(f"{workers}; how long it takes is known when the first points are done")
    else:
        parts.append(f"about {long_duration(plan.duration_s)} on {workers}")
    return ", ".join(parts)


def long_duration(seconds: float) -> str:
    """`38 min`, `2h05m`, `45 s`."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else format_duration(seconds)


def rate_text(rate: float | None) -> str:
    """`8,400/s`, `3.2/min`."""
    if not rate:
        return "-"
    if rate >= 100:
        return f"{rate:,.0f}/s"
    return f"{rate:.3g}/s" if rate >= 0.5 else f"{60 * rate:.3g}/min"


def sweeps_table(sweeps: Sequence[SweepView]) -> str:
    """A line for each sweep."""
    if not sweeps:
        return "no sweeps"
    return table(_HEADER, [_row(sweep) for sweep in sweeps], right=_RIGHT, state="STATE")


def _row(sweep: SweepView) -> list[str]:
    left = format_duration(sweep.eta_s) if sweep.eta_s is not None else "-"
    is_control = sweep.run == "control"
    points, failed = (sweep.points_total, sweep.main_failed) if is_control else (sweep.points, sweep.failed)
    control = f"control run {sweep.done + sweep.failed:,}/{sweep.points:,}" if is_control else ""
    return [
        str(sweep.id),
        sweep.name,
        sweep.owner,
        sweep.state.upper(),
        f"{points:,}",
        f"{points - failed:,}" if is_control else f"{sweep.done:,}",
        f"{failed:,}",
        rate_text(sweep.rate_points_s),
        left,
        short_local(sweep.submitted_at_s),
        " ".join(filter(None, (sweep.target, control, sweep.reason))),
    ]


def sweep_line(sweep: SweepView) -> str:
    """How far it is, in one line."""
    settled = sweep.done + sweep.failed
    parts = [f"[{settled:,}/{sweep.points:,}] {sweep.percent:.1f}%"]
    if sweep.run == "control":
        failed = f", {sweep.main_failed:,} failed" if sweep.main_failed else ""
        parts.insert(0, f"all {sweep.points_total:,} points{failed}; control run")
    if sweep.failed:
        parts.append(f"{sweep.failed:,} failed")
    if sweep.to_retry:
        parts.append(f"{sweep.to_retry:,} to try again")
    if sweep.rate_points_s:
        parts.append(f"{rate_text(sweep.rate_points_s)} on {counted(sweep.workers, 'worker')}")
    if sweep.eta_s is not None:
        parts.append(f"{long_duration(sweep.eta_s)} left")
    return ", ".join(parts)


def sweep_story(sweep: SweepView, best: Ranking | None) -> str:
    """All about one sweep."""
    state = paint(sweep.state.upper(), state_colour("held" if sweep.state == "stopped" else sweep.state))
    lines = [f"sweep {sweep.id} ({clean(sweep.name)}) {state}" + (f": {clean(sweep.reason)}" if sweep.reason else "")]
    lines.append(f"  {sweep_line(sweep)}")
    facts = [
        ("owner", sweep.owner),
        ("target", sweep.target),
        ("space", sweep.space + (f", where {sweep.where}" if sweep.where else "")),
        ("metric", f"{sweep.metric.name} ({sweep.metric.direction})"),
        ("submitted", iso_local(sweep.submitted_at_s) if sweep.submitted_at_s else "-"),
    ]
    if sweep.stopped_early:
        facts.append(("stopped", f"{sweep.stopped_early:,} points early, by what they reported"))
    if sweep.reused:
        facts.append(("reused", f"{sweep.reused:,} points of an earlier sweep of the same code"))
    if sweep.ended_at_s:
        took = f", {format_duration(sweep.took_s)} after the first chunk" if sweep.took_s is not None else ""
        facts.append(("ended", f"{iso_local(sweep.ended_at_s)}{took}"))
    lines += [f"  {name:<10}{clean(value)}" for name, value in facts]
    if sweep.nodes:
        lines += ["", table(("NODE", "WORKERS", "RATE", "UNDER WAY", "CHUNKS"), list(map(_node_row, sweep.nodes)))]
        held = [(node.node, node.ram.sentence) for node in sweep.nodes if node.ram is not None]
        lines += ["", table(("NODE", "RAM DISK"), [list(map(clean, row)) for row in held])] if held else []
        resting = [(node.node, node.rest.sentence) for node in sweep.nodes if node.rest is not None]
        lines += ["", table(("NODE", "NO NEW RUNNER"), [list(map(clean, row)) for row in resting])] if resting else []
    if best is not None and best.rows:
        lines += ["", f"best by {clean(best.by)}:", ranking_table(best)]
    if sweep.events:
        lines += ["", *(f"  {iso_local(line['at_s'])}  {clean(line['sentence'])}" for line in sweep.events)]
    return "\n".join(lines)


def _node_row(node: Any) -> list[str]:  # noqa: ANN401 - a SweepNode
    chunks = ", ".join(f"{one['chunk']} ({one['left']:,} left)" for one in node.chunks[:6])
    return [node.node, str(node.workers), rate_text(node.rate_points_s), f"{node.under_way:,}", chunks or "-"]


def number_text(value: object) -> str:
    """A metric for a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def ranking_columns(ranking: Ranking) -> tuple[list[str], list[list[object]]]:
    """Header and rows: rank, point, value where it is no metric, parameters, metrics, control metrics."""
    params = _names([row.params for row in ranking.rows])
    metrics = _names([row.metrics for row in ranking.rows])
    control = _names([row.control or {} for row in ranking.rows])
    by_metric = ranking.by in metrics
    metrics = [ranking.by, *(name for name in metrics if name != ranking.by)] if by_metric else metrics
    has_spread = any(row.spread is not None for row in ranking.rows)
    header = ["rank", "point", *([] if by_metric else [ranking.by]), *params, *metrics]
    header += ["spread"] if has_spread else []
    header += [f"control {name}" for name in control]
    rows = []
    for rank, row in enumerate(ranking.rows, 1):
        cells: list[object] = [rank, row.point, *([] if by_metric else [row.value])]
        cells += [row.params.get(name, "") for name in params]
        cells += [row.metrics.get(name, "") for name in metrics]
        cells += [row.spread if row.spread is not None else ""] if has_spread else []
        cells += [(row.control or {}).get(name, "") for name in control]
        rows.append(cells)
    return header, rows


def _names(dicts: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for one in dicts for name in one))


def ranking_table(ranking: Ranking) -> str:
    """The best points."""
    if not ranking.rows:
        return f"no point has a number for {clean(ranking.by)} so far"
    header, rows = ranking_columns(ranking)
    return table([clean(name) for name in header], [[number_text(cell) for cell in row] for row in rows], right=header)


def failures_table(failures: Sequence[FailedPoint]) -> str:
    """Points that failed."""
    if not failures:
        return "no point has failed"
    rows = []
    for one in failures:
        params = " ".join(f"{name}={number_text(value)}" for name, value in one.params.items())
        again = "" if one.retry_at_s is None else f" (tried again {_when(one.retry_at_s)})"
        rows.append([str(one.point), str(one.tries), one.kind, one.node, params, f"{one.sentence}{again}"])
    return table(("POINT", "TRIES", "KIND", "NODE", "PARAMETERS", "WHY"), rows, right=("POINT", "TRIES"))


def _when(at_s: float) -> str:
    left_s = at_s - time.time()
    return f"in {format_duration(left_s)}" if left_s > 0 else "soon"
