"""`racksack logs`: what a job printed; with -f as it prints it, and with the job's exit code at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, for_each, open_client, option_s
from racksack.text import clean, for_terminal, say, short_local
from racksack_jobspecs.states import WAITING, JobState

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.log_times import Showing
    from racksack.views import JobDetails


@click.command("logs", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@click.option("-f", "--follow", is_flag=True, help="Follow until the job ends; exit with its exit code.")
@click.option("-n", "--tail", "tail", metavar="N", type=click.IntRange(min=0), help="Only the last N lines.")
@click.option("--since", metavar="TIME", help="Only what was printed in the last 10m, 2h, ...")
@click.option("-T", "--timestamps", is_flag=True, help="Prefix each line with the time it was printed.")
@click.option("--stdout", "stream", flag_value="stdout", help="Only stdout.")
@click.option("--stderr", "stream", flag_value="stderr", help="Only stderr.")
@click.option("--env", "stream", flag_value="env", help="Show how the venv was created.")
@click.option(
    "--stage",
    type=click.Choice(["run", "env", "transfer"]),
    help="run: its output; env: the creation of the venv; transfer: the copying to and from the node.",
)
@click.option("--attempt", metavar="K", type=click.IntRange(min=1), help="Of an earlier attempt.")
@click.option("--rank", metavar="K", type=click.IntRange(min=0), help="Rank K of a job on several nodes. [0]")
@click.option("--exit-code", is_flag=True, help="With -f: exit with the program's own exit code.")
@controller_option
def command(
    ids: tuple[str, ...],
    follow: bool,
    tail: int | None,
    since: str | None,
    timestamps: bool,
    stream: str | None,
    stage: str | None,
    attempt: int | None,
    rank: int | None,
    exit_code: bool,
    controller: str | None,
) -> int:
    """Show what jobs printed: their stdout on stdout, their stderr on stderr.

    Without -f it returns at once, also for a job that has not started.
    """
    from racksack.log_times import Showing

    ago_s = option_s("--since", since)
    if follow and (attempt is not None or stage == "transfer"):
        raise click.UsageError("-f follows a running attempt; leave out --attempt and --stage transfer")
    if ago_s is not None and tail is not None:
        raise click.UsageError("use either --since or --tail")
    stream = "env" if stage == "env" else stream
    streams = (stream,) if stream else ("stdout", "stderr")
    with open_client(controller) as client:
        how = Showing(None if ago_s is None else client.now_s() - ago_s, tail, timestamps, attempt, rank)
        job_ids = client.resolve(ids)
        if stage == "transfer":
            return for_each(job_ids, lambda job_id: _transfer(client.job(job_id), attempt))
        if follow:
            return _follow(client, job_ids, streams, how, exit_code)
        several = len(job_ids) > 1
        return for_each(job_ids, lambda job_id: _show(client, job_id, streams, how, several))


def _follow(client: Client, job_ids: list[int], streams: tuple[str, ...], how: Showing, pass_exit_code: bool) -> int:
    from racksack.following import Patience, wait_for
    from racksack.waiting import ending, final_code, leaving_alone, show_logs

    with leaving_alone(job_ids):
        show_logs(client, job_ids, streams, how)
        jobs = wait_for(client, job_ids, patience=Patience(say))
    for job in jobs:
        say(ending(job))
    return final_code(jobs, pass_exit_code)


def _show(client: Client, job_id: int, streams: tuple[str, ...], how: Showing, several: bool) -> None:
    job = client.job(job_id)
    if JobState(job.state) in WAITING:
        say(f"job {job_id} ({clean(job.name)}) is {job.state} and has printed nothing yet; -f follows it")
        return
    if how.since_s is not None and job.is_final and (job.ended_at_s or 0.0) < how.since_s:
        say(f"job {job_id} ({clean(job.name)}) ended before that time")
        return
    for stream in streams:
        output = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
        for data in _lines(client, job, stream, how, f"{job_id}: ".encode() if several else b""):
            output.write(for_terminal(data) if output.isatty() else data)
        output.flush()


def _lines(client: Client, job: JobDetails, stream: str, how: Showing, prefix: bytes) -> Iterator[bytes]:
    """A log piece by piece, with what is to stand before each line."""
    from racksack.log_times import Lines, begin

    start, notes = begin(client, job.id, stream, how)
    lines = Lines(prefix, notes if how.timestamps else None, start, otherwise=lambda: job.ended_at_s or time.time())
    for piece in client.log(job.id, stream, attempt=how.attempt, rank=how.rank, offset=start):
        yield lines.feed(piece)
    yield lines.end()


def _transfer(job: JobDetails, attempt: int | None) -> None:
    """What the controller told about placing, sending, starting, ending and fetching a job."""
    for event in job.events:
        click.echo(f"{job.id}  {short_local(event.get('at_s'))}  {clean(event.get('sentence') or '')}")
    for one in job.attempts:
        if attempt in (None, one.get("number")) and one.get("problem"):
            click.echo(
                f"{job.id}  attempt {one.get('number')} on {clean(one.get('node') or '-')}: {clean(one['problem'])}"
            )
