"""`racksack cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racksack.cli import controller_option, for_each, json_option, open_client
from racksack.text import clean, print_json

if TYPE_CHECKING:
    from racksack.client import Client

_GRACE = "10s"


@click.command("cancel", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All my jobs that wait or run.")
@click.option("-n", "--name", "name", metavar="NAME", help="All my waiting or running jobs of this name.")
@click.option("-s", "--signal", "signal", metavar="SIGNAL", default="TERM", help="First signal: TERM, INT, ... [TERM]")
@click.option("--grace", metavar="TIME", help=f"Time between the signal and the kill. [{_GRACE}]")
@click.option("--force", is_flag=True, help="Kill at once.")
@click.option("--reason", metavar="TEXT", help="Kept with the job.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before --all.")
@json_option
@controller_option
def command(
    ids: tuple[str, ...],
    everything: bool,
    name: str | None,
    signal: str,
    grace: str | None,
    force: bool,
    reason: str | None,
    yes: bool,
    as_json: bool,
    controller: str | None,
) -> int:
    """End jobs: the signal, some grace, then a kill of all their processes; what they wrote so far comes back.

    A job that has ended already stays as it is, which is no error.
    """
    grace_s = _grace_s(grace, force)
    name_of_signal = "KILL" if force else signal.upper().removeprefix("SIG")
    if not ids and not everything and name is None:
        raise click.UsageError("name the jobs to cancel, or use --all or --name")
    body: dict[str, object] = {"reason": reason, "grace_s": grace_s, "signal": name_of_signal}
    with open_client(controller) as client:
        job_ids = client.resolve(ids) if ids else _mine(client, name, yes)
        return for_each(job_ids, lambda job_id: _cancel(client, job_id, body, as_json))


def _grace_s(grace: str | None, force: bool) -> float | None:
    """Seconds, or None for the controller's default."""
    from racksack_jobspecs.units import parse_duration

    if force:
        return 0.0
    try:
        return parse_duration(grace) if grace else None
    except ValueError as error:
        raise click.UsageError(f"--grace: {error}") from None


def _mine(client: Client, name: str | None, yes: bool) -> list[int]:
    jobs = [job for job in client.jobs(owner="me") if not job.is_final and name in (None, job.name)]
    if jobs and name is None and not yes:
        click.confirm(f"Cancel all {len(jobs)} jobs of yours that wait or run?", abort=True, err=True)
    return [job.id for job in jobs]


def _cancel(client: Client, job_id: int, body: dict[str, object], as_json: bool) -> None:
    before = client.job(job_id)
    if not before.is_final:
        client.act(job_id, "cancel", **body)
    if as_json:
        print_json({"id": job_id, "was": before.state, "cancelled": not before.is_final})
    elif before.is_final:
        click.echo(f"{job_id} ({clean(before.name)}) has ended already: {before.state}")
    else:
        where = f" on {clean(before.node)}" if before.node else ""
        click.echo(f"{job_id} ({clean(before.name)}) is being cancelled{where}")
