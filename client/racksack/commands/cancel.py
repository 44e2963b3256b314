"""`racksack cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, for_each, json_option, open_client, option_s
from racksack.text import clean, print_json

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.views import JobDetails


ONE_BY_ONE_MAX = 20  # more jobs are cancelled in one request, and told in one line


@click.command("cancel", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="[ID]...", shell_complete=complete("job_ids"), nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All your waiting and running jobs.")
@click.option("-n", "--name", "name", metavar="NAME", help="Your waiting and running jobs of this name.")
@click.option("-s", "--signal", "signal", metavar="SIGNAL", default="TERM", help="First signal: TERM, INT, ... [TERM]")
@click.option("--grace", metavar="TIME", help="Time between the signal and the kill. [as the job asked for, or 10s]")
@click.option("--force", is_flag=True, help="Kill at once.")
@click.option("--no-results", is_flag=True, help="Discard their partial results.")
@click.option("--reason", metavar="TEXT", help="The reason, kept with the job.")
@click.option("-w", "--wait", is_flag=True, help="Wait until they have ended.")
@click.option("-y", "--yes", is_flag=True, help="Skip the confirmation of --all.")
@json_option
@controller_option
def command(
    ids: tuple[str, ...],
    everything: bool,
    name: str | None,
    signal: str,
    grace: str | None,
    force: bool,
    no_results: bool,
    reason: str | None,
    wait: bool,
    yes: bool,
    as_json: bool,
    controller: str | None,
) -> int:
    """Cancel jobs: a signal, a grace period, then SIGKILL to all their processes; what they wrote so far is returned.

    Jobs that have already ended are left alone; that is not an error.
    """
    if force and (grace is not None or signal != "TERM"):
        raise click.UsageError("--force kills at once; it leaves no room for --grace or --signal")
    if not ids and not everything and name is None:
        raise click.UsageError("name the jobs to cancel, or use --all or --name")
    if ids and (everything or name is not None):
        raise click.UsageError("name the jobs by their ids, or use --all or --name, not both")
    body: dict[str, object] = {
        "reason": reason,
        "grace_s": 0.0 if force else option_s("--grace", grace),
        "signal": "KILL" if force else signal.upper().removeprefix("SIG"),
        "results": False if no_results else None,
    }
    with open_client(controller) as client:
        job_ids = client.resolve(ids) if ids else _mine(client, name, yes)
        if not job_ids and not as_json:
            click.echo("nothing to cancel")
        before: dict[int, JobDetails] = {}
        if len(job_ids) > ONE_BY_ONE_MAX and not force and grace is None and signal == "TERM" and not wait:
            done = client.cancel_many(job_ids, reason=reason, results=False if no_results else None)
            if as_json:
                for job_id in sorted(done):
                    print_json({"id": job_id, "cancelled": True})
            else:
                click.echo(f"{len(done)} jobs are cancelled or being cancelled")
            job_ids = [job_id for job_id in job_ids if job_id not in done]

        def cancel(job_id: int) -> None:
            before[job_id] = _cancel(client, job_id, body)
            if not wait:
                _tell(client.job(job_id), before[job_id], as_json)

        code = for_each(job_ids, cancel)
        if wait:
            from racksack.following import wait_for

            for job in wait_for(client, list(before)):
                _tell(job, before[job.id], as_json)
        return code


def _mine(client: Client, name: str | None, yes: bool) -> list[int]:
    jobs = [job for job in client.jobs(owner="me") if not job.is_final and name in (None, job.name)]
    if jobs and name is None and not yes:
        which = (
            "your only waiting or running job" if len(jobs) == 1 else f"all {len(jobs)} jobs of yours that wait or run"
        )
        click.confirm(f"Cancel {which}?", abort=True, err=True)
    return [job.id for job in jobs]


def _cancel(client: Client, job_id: int, body: dict[str, object]) -> JobDetails:
    """Ask for the end; the job as it was before."""
    before = client.job(job_id)
    if not before.is_final:
        client.act(job_id, "cancel", **body)
    return before


def _tell(job: JobDetails, before: JobDetails, as_json: bool) -> None:
    what = f"{job.id} ({clean(job.name)})"
    where = f" on {clean(job.node)}" if job.node else ""
    if as_json:
        print_json({"id": job.id, "was": before.state, "state": job.state, "cancelled": not before.is_final})
    elif before.is_final:
        click.echo(f"{what} has ended already: {before.state}")
    elif job.is_final:
        click.echo(f"{what} {job.state}{where}{_partial(job)}")
    else:
        click.echo(f"{what} is being cancelled{where}")


def _partial(job: JobDetails) -> str:
    from racksack_jobspecs.units import format_memory

    if not job.output_files:
        return ""
    files = "1 file" if job.output_files == 1 else f"{job.output_files} files"
    return f"; partial results: {files}, {format_memory(job.output_bytes or 0)}"
