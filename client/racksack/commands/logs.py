"""`racksack logs`: what a job printed; with -f as it prints it, and with the job's exit code at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from racksack.cli import controller_option, for_each, open_client
from racksack.text import clean, say
from racksack_jobspecs.states import WAITING, JobState

if TYPE_CHECKING:
    from racksack.client import Client

_TAIL_BYTES = 64 * 1024


class Which(NamedTuple):
    """Whose log; None: the latest attempt's, rank 0's."""

    attempt: int | None
    rank: int | None


@click.command("logs", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends, and end with its exit code.")
@click.option("-n", "--tail", "tail", metavar="N", type=click.IntRange(min=0), help="Only the last N lines.")
@click.option("--stdout", "stream", flag_value="stdout", help="Only stdout.")
@click.option("--stderr", "stream", flag_value="stderr", help="Only stderr.")
@click.option("--env", "stream", flag_value="env", help="How the venv was made.")
@click.option("--stage", type=click.Choice(["run", "env"]), help="The same as --env for `env`.")
@click.option("--attempt", metavar="K", type=click.IntRange(min=1), help="An earlier attempt's.")
@click.option("--rank", metavar="K", type=click.IntRange(min=0), help="Of a job on several nodes: rank K. [0]")
@click.option("--exit-code", is_flag=True, help="With -f: end with the program's own code.")
@controller_option
def command(
    ids: tuple[str, ...],
    follow: bool,
    tail: int | None,
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
    stream = "env" if stage == "env" else stream
    streams = (stream,) if stream else ("stdout", "stderr")
    with open_client(controller) as client:
        job_ids = client.resolve(ids)
        if follow:
            return _follow(client, job_ids, streams, rank, exit_code)
        several = len(job_ids) > 1
        which = Which(attempt, rank)
        return for_each(job_ids, lambda job_id: _show(client, job_id, streams, tail, which, several))


def _follow(
    client: Client, job_ids: list[int], streams: tuple[str, ...], rank: int | None, pass_exit_code: bool
) -> int:
    from racksack.following import Patience, wait_for
    from racksack.waiting import ending, final_code, leaving_alone, show_logs

    with leaving_alone(job_ids):
        show_logs(client, job_ids, streams, rank)
        jobs = wait_for(client, job_ids, patience=Patience(say))
    for job in jobs:
        say(ending(job))
    return final_code(jobs, pass_exit_code)


def _show(client: Client, job_id: int, streams: tuple[str, ...], tail: int | None, which: Which, several: bool) -> None:
    job = client.job(job_id)
    if JobState(job.state) in WAITING:
        say(f"job {job_id} ({clean(job.name)}) is {job.state} and has printed nothing yet; -f waits for it")
        return
    for stream in streams:
        output = sys.stderr.buffer if stream == "stderr" else sys.stdout.buffer
        if tail is not None:
            data = _tail(client, job_id, stream, tail, which)
            output.write(_prefixed(data, job_id) if several else data)
        elif several:
            output.write(
                _prefixed(b"".join(client.log(job_id, stream, attempt=which.attempt, rank=which.rank)), job_id)
            )
        else:
            output.writelines(client.log(job_id, stream, attempt=which.attempt, rank=which.rank))
        output.flush()


def _tail(client: Client, job_id: int, stream: str, lines: int, which: Which) -> bytes:
    """The last lines of a log, read from its end in growing steps."""
    size = _TAIL_BYTES
    while True:
        whole = b"".join(client.log(job_id, stream, attempt=which.attempt, rank=which.rank, offset=-size))
        found = whole.splitlines(keepends=True)
        if len(found) > lines or len(whole) < size:
            return b"".join(found[-lines:]) if lines else b""
        size *= 8


def _prefixed(data: bytes, job_id: int) -> bytes:
    if not data:
        return data
    end = b"" if data.endswith(b"\n") else b"\n"
    return b"".join(b"%d: %s" % (job_id, line) for line in data.splitlines(keepends=True)) + end
