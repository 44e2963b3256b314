"""`racksack energy`: what nodes and jobs drew, and what was saved by switching off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from racksack.cli import controller_option, json_option, open_client
from racksack.durations import duration_option
from racksack.text import kwh_text, print_json, short_local, table

if TYPE_CHECKING:
    from racksack.views import EnergyReport, NodeEnergy

JOBS_SHOWN = 20
_NODES = ("NODE", "ENERGY", "BY JOBS", "IDLE", "ALWAYS ON", "SAVED", "ON FOR", "COST", "SAVED COST", "HOW KNOWN")
_JOBS = ("ID", "NAME", "USER", "ENERGY", "COST", "HOW KNOWN")


@click.command("energy", context_settings={"help_option_names": ["-h", "--help"]})
@duration_option("--since", "since", default="7d", help="How far back, such as 24h or 30d.")
@json_option
@controller_option
def command(since: float, as_json: bool, controller: str | None) -> int:
    """Say what nodes and jobs drew, and what was saved against servers that are always on."""
    import msgspec

    with open_client(controller) as client:
        report = client.energy(client.now_s() - since)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        click.echo(_text(report))
    return 0


def _text(report: EnergyReport) -> str:
    if not report.nodes:
        return "no energy was measured: no node has a power block"
    priced = report.price_per_kwh is not None
    total = report.total
    parts = [f"since {short_local(report.since_s)}", _node_table([*report.nodes, total], priced)]
    if report.jobs:
        parts.append(_job_table(report, priced))
    parts.append(_sum(total, report))
    return "\n\n".join(parts)


def _node_table(nodes: Sequence[NodeEnergy], priced: bool) -> str:
    from racksack_jobspecs.units import format_duration

    rows = [
        [
            node.node or "all",
            kwh_text(node.kwh),
            kwh_text(node.jobs_kwh),
            kwh_text(node.idle_kwh),
            kwh_text(node.always_on_kwh),
            kwh_text(node.saved_kwh),
            format_duration(node.on_s),
            _money(node.cost),
            _money(node.saved_cost),
            _how(node.is_estimate, node.measured_kwh),
        ]
        for node in nodes
    ]
    return _without_money(_NODES, rows, priced)


def _job_table(report: EnergyReport, priced: bool) -> str:
    rows = [
        [
            str(job.job),
            job.name,
            str(job.owner),
            kwh_text(job.kwh),
            _money(job.cost),
            "estimate" if job.is_estimate else "measured",
        ]
        for job in report.jobs[:JOBS_SHOWN]
    ]
    shown = _without_money(_JOBS, rows, priced)
    left = len(report.jobs) - len(rows)
    return shown + (f"\nand {left} jobs that used less" if left > 0 else "")


def _without_money(header: Sequence[str], rows: Sequence[Sequence[str]], priced: bool) -> str:
    kept = [at for at, name in enumerate(header) if priced or "COST" not in name]
    right = [name for name in header if name not in ("NODE", "NAME", "USER", "HOW KNOWN")]
    return table([header[at] for at in kept], [[row[at] for at in kept] for row in rows], right=right)


def _money(cost: float | None) -> str:
    if cost is None:
        return "-"
    if 0 < abs(cost) < 1e-4:
        return "<0.0001"
    return f"{cost:.2f}" if abs(cost) >= 0.1 or not cost else f"{cost:.4f}"


def _how(is_estimate: bool, measured_kwh: float) -> str:
    if not is_estimate:
        return "measured"
    return "partly estimated" if measured_kwh > 0 else "estimate"


def _sum(total: NodeEnergy, report: EnergyReport) -> str:
    money = "" if total.saved_cost is None else f", {_money(total.saved_cost)} at {report.price_per_kwh:g} a kWh"
    kind = _how(total.is_estimate, total.measured_kwh)
    return (
        f"{kwh_text(total.kwh)} drawn ({kind}); against servers that are always on "
        f"{kwh_text(total.saved_kwh)} were saved{money} (an estimate)"
    )
