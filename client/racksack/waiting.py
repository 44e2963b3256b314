"""Seeing jobs through on a terminal: their states as they change, their output, their results, and the exit code.

Ctrl-C ends the watching and leaves the jobs alone, and says so.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from racksack import not_brought
from racksack.arrays import label
from racksack.client import Client
from racksack.ends import explained, last_words, own_code
from racksack.following import Patience, code_of, follow_log, wait_for
from racksack.log_times import Lines, Showing, begin
from racksack.text import clean, for_terminal, paint, say, state_colour
from racksack.views import JobDetails
from racksack_jobspecs.states import ExitCode, JobState


def see_through(
    client: Client,
    job_ids: Sequence[int],
    *,
    follow: bool,
    quiet: bool = False,
    pass_exit_code: bool = False,
    fetch_into: Path | None = None,
) -> int:
    """Wait for jobs (showing the output of a single one with `follow`), fetch results if asked, return the exit
    code.
    """
    with leaving_alone(job_ids):
        if follow:
            show_logs(client, job_ids, ("stdout", "stderr"))
        tell = (lambda job: None) if quiet or follow else lambda job: say_state(job, client)
        jobs = wait_for(client, job_ids, on_change=tell, patience=Patience(say))
        if follow:
            for job in jobs:
                say_ending(job)  # its stderr was shown
    if fetch_into is not None:
        from racksack.commands.fetch import bring
        from racksack.fetching import Wish

        code = bring(client, jobs, Wish(fetch_into), quiet=quiet)
        if code != ExitCode.OK:
            return code
    return final_code(jobs, pass_exit_code)


def final_code(jobs: Sequence[JobDetails], pass_exit_code: bool) -> int:
    """The exit code that tells how jobs ended; the program's own when asked for and there is one."""
    own = own_code(jobs[0]) if pass_exit_code and len(jobs) == 1 else None
    return code_of(jobs) if own is None else own


def ending(job: JobDetails) -> str:
    """How a job ended, in a line."""
    head = f"job {label(job)} ({clean(job.name)}) {paint(job.state, state_colour(job.state), sys.stderr)}"
    reason = job.outcome_reason or ""
    if not reason and job.exit_code is not None and job.state == JobState.FAILED:
        reason = f"exit code {job.exit_code}"
    return f"{head}: {clean(explained(reason))}" if reason else head


def say_ending(job: JobDetails, client: Client | None = None) -> None:
    """Tell on stderr how a job ended, with its last words where they can be asked for, and what did not come back."""
    say(ending(job))
    words = last_words(client, job) if client is not None else ""
    if words:
        say(f"  last line of stderr: {words}")
    for line in not_brought.lines(job.id, job.outputs):
        say(line)


@contextmanager
def leaving_alone(job_ids: Sequence[int]) -> Iterator[None]:
    """Say on Ctrl-C that the jobs go on."""
    try:
        yield
    except KeyboardInterrupt:
        first = job_ids[0] if job_ids else "ID"
        say(f"\nstopped watching; the job goes on (`racksack logs -f {first}`, `racksack cancel {first}`)")
        raise


def show_logs(client: Client, job_ids: Sequence[int], streams: Sequence[str], how: Showing | None = None) -> None:
    """Follow the logs of one job to our stdout and stderr; of several jobs each line carries the job's id."""
    import threading

    how = how or Showing()
    ways = [(job_id, stream) for job_id in job_ids for stream in streams]
    if len(ways) == 1:
        _pump(client, *ways[0], b"", how)
        return
    failures: list[BaseException] = []
    threads = []
    for job_id, stream in ways:
        prefix = f"{job_id}: ".encode() if len(job_ids) > 1 else b""
        thread = threading.Thread(target=_pump_alone, args=(client, job_id, stream, prefix, how, failures), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=0.5)  # a join without an end would not hear Ctrl-C
    if failures:
        raise failures[0]


def _pump_alone(
    client: Client, job_id: int, stream: str, prefix: bytes, how: Showing, failures: list[BaseException]
) -> None:
    """One log over a connection of its own, for a thread. What goes wrong is raised by whoever waits for it."""
    try:
        with Client(client.target) as own:
            _pump(own, job_id, stream, prefix, how)
    except Exception as error:  # noqa: BLE001 - carried to the other thread
        failures.append(error)


def _pump(client: Client, job_id: int, stream: str, prefix: bytes, how: Showing) -> None:
    destination = 2 if stream == "stderr" else 1
    patience = Patience(say)
    offset, notes = patience.ask(lambda: begin(client, job_id, stream, how))
    lines = Lines(prefix, notes if how.timestamps else None, offset, otherwise=time.time)
    for data in follow_log(client, job_id, stream, offset=offset, rank=how.rank, patience=patience):
        _write(destination, lines.feed(data))
    _write(destination, lines.end())


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(for_terminal(data) if os.isatty(descriptor) else data)
    while view:
        view = view[os.write(descriptor, view) :]


def say_state(job: JobDetails, client: Client | None = None) -> None:
    """Tell of a job's state in a line on stderr."""
    where = f" on {clean(job.node)}" if job.node else ""
    if job.is_final:
        say_ending(job, client)
    else:
        why = f" - {clean(job.why)}" if job.why and not job.node else ""
        say(f"job {label(job)} {paint(job.state, state_colour(job.state), sys.stderr)}{where}{why}")
