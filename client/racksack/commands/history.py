"""`racksack history`."""

from __future__ import annotations

import csv
import sys

import click

from racksack.cli import controller_option, json_option, open_client, option_s
from racksack.text import csv_cell, print_json

_COLUMNS = (
    "id", "name", "owner", "state", "node", "cpus", "ram_bytes", "submitted_at_s", "started_at_s", "ended_at_s",
    "exit_code", "ram_peak_bytes", "cpu_s", "output_bytes", "outcome_reason",
)  # fmt: skip


@click.command("history", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--since", metavar="TIME", help="Only jobs that ended in the last 2h, 7d, ...")
@click.option("-u", "--user", "owner", metavar="USER", help="Only this user's; `me` for mine.")
@click.option("-n", "--limit", metavar="N", type=click.IntRange(min=1), default=100, help="At most N jobs. [100]")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@json_option
@controller_option
def command(
    since: str | None, owner: str | None, limit: int, as_csv: bool, as_json: bool, controller: str | None
) -> int:
    """List finished jobs, newest first."""
    import msgspec

    from racksack.commands.status import queue_table

    ago_s = option_s("--since", since)
    with open_client(controller) as client:
        since_s = None if ago_s is None else client.now_s() - ago_s
        jobs = client.history(since_s=since_s, owner=owner, limit=limit)
    if as_json:
        print_json(msgspec.to_builtins(jobs))
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(_COLUMNS)
        writer.writerows([csv_cell(getattr(job, column)) for column in _COLUMNS] for job in jobs)
    else:
        click.echo(queue_table(jobs))
    return 0
