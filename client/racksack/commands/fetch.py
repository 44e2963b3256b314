"""`racksack fetch` = `fetch-results`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, json_option, open_client, version_option
from racksack.text import clean, counted, print_json, say
from racksack_jobspecs.states import ExitCode

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.fetching import Fetched, Wish
    from racksack.views import JobView


@click.command("fetch", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="[ID]...", shell_complete=complete("job_ids"), nargs=-1)
@click.option(
    "-o",
    "--output",
    "into",
    metavar="DIR",
    default="results",
    help="Into this folder, one subfolder per job. [results]",
)
@click.option("--new", "only_new", is_flag=True, help="Finished jobs that were not fetched yet (the default).")
@click.option("-a", "--all", "everything", is_flag=True, help="All your finished jobs, fetched or not.")
@click.option("-w", "--watch", is_flag=True, help="Keep fetching until none of your jobs waits or runs.")
@click.option("--out", "left", metavar="GLOB", multiple=True, help="Also files left on the job's node.")
@click.option("--checkpoint", is_flag=True, help="The newest checkpoint of the jobs, also of running ones.")
@click.option("--include", metavar="PATTERN", multiple=True, help="Only these files.")
@click.option("--only-logs", is_flag=True, help="Only the logs and result.json.")
@click.option("--overwrite", is_flag=True, help="Replace local files that differ.")
@click.option("--keep-both", is_flag=True, help="Keep local files that differ; save the job's beside them.")
@click.option("--delete-after", is_flag=True, help="Delete the controller's copy once fetched.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@json_option
@controller_option
@version_option("-V", "--version")
def command(
    ids: tuple[str, ...],
    into: str,
    only_new: bool,
    everything: bool,
    watch: bool,
    left: tuple[str, ...],
    checkpoint: bool,
    include: tuple[str, ...],
    only_logs: bool,
    overwrite: bool,
    keep_both: bool,
    delete_after: bool,
    quiet: bool,
    as_json: bool,
    controller: str | None,
) -> int:
    """Bring the results of finished jobs to ./results/<id>-<name>/.

    Without ids: every finished job of yours that was not fetched yet. Local files that were changed are never
    overwritten unless you say so. A broken transfer goes on where it stopped when the command is repeated.
    """
    from racksack.fetching import Wish

    if overwrite and keep_both:
        raise click.UsageError("use either --overwrite or --keep-both")
    if ids and (everything or only_new or watch):
        raise click.UsageError("name jobs, or use --new, --all or --watch, not both")
    existing = "overwrite" if overwrite else "both" if keep_both else "keep"
    wish = Wish(Path(into), include, only_logs, existing, delete_after)  # type: ignore[arg-type]
    if left and not ids:
        raise click.UsageError("--out fetches files left on a job's node; name the job")
    if checkpoint and not ids:
        raise click.UsageError("--checkpoint brings the checkpoint of a job; name the job")
    with open_client(controller) as client:
        if checkpoint:
            from racksack.checkpoint_fetch import fetch_checkpoints

            return fetch_checkpoints(client, client.resolve(ids), Path(into), quiet=quiet, as_json=as_json)
        if watch:
            return _watch(client, wish, quiet=quiet, as_json=as_json)
        jobs = _chosen(client, ids) if ids else _finished(client, everything)
        for job in jobs if left else ():
            for sentence in client.bring(job.id, left)["missing"]:
                say(f"{job.id} {clean(job.name)}: {clean(sentence)}")
        return bring(client, jobs, wish, quiet=quiet, as_json=as_json)


def bring(
    client: Client, jobs: Sequence[JobView], wish: Wish, *, quiet: bool = False, as_json: bool = False
) -> ExitCode:
    """Fetch jobs, print a line for each and a total, and return the exit code."""
    from racksack.fetching import fetch
    from racksack.progress import transfer_bar

    results = []
    total_bytes = sum(job.output_bytes or 0 for job in jobs)
    with transfer_bar("fetching", total_bytes or None, quiet=quiet or as_json or not jobs) as bar:
        for result in fetch(client, jobs, wish, bar) if jobs else ():
            results.append(result)
            _tell(result, quiet=quiet or as_json)
    if as_json:
        print_json([_facts(result) for result in results])
    elif not quiet:
        print(_total(results, wish.into))
    sys.stdout.flush()
    return _code(results)


def _chosen(client: Client, ids: Sequence[str]) -> list[JobView]:
    """The named jobs; those that have not ended have no results yet."""
    jobs: list[JobView] = [client.job(job_id) for job_id in client.resolve(ids)]
    for job in jobs:
        if not job.is_final:
            say(f"job {job.id} ({clean(job.name)}) is {job.state}; its results can be fetched when it has ended")
    return [job for job in jobs if job.is_final]


def _finished(client: Client, everything: bool) -> list[JobView]:
    jobs = client.jobs(owner="me", all=1, fetched=None if everything else 0)
    return [job for job in reversed(jobs) if job.has_results and (everything or not job.fetched)]


def _watch(client: Client, wish: Wish, *, quiet: bool, as_json: bool) -> int:
    """Fetch whatever has finished, until none of the caller's jobs waits or runs."""
    from racksack.following import Patience, wait_for

    worst = ExitCode.OK
    tried: set[int] = set()
    while True:
        unfinished = [job for job in client.jobs(owner="me") if not job.is_final]
        fresh = [job for job in _finished(client, False) if job.id not in tried]
        if fresh:
            worst = max(worst, bring(client, fresh, wish, quiet=quiet, as_json=as_json))
            tried.update(job.id for job in fresh)
        elif not unfinished:
            return worst
        if unfinished:
            wait_for(client, [job.id for job in unfinished], any_of=True, patience=Patience(say))


def _tell(result: Fetched, *, quiet: bool) -> None:
    from racksack_jobspecs.units import format_memory

    job = result.job
    head = f"{job.id} {clean(job.name)} {job.state}"
    if result.error is not None:
        say(f"{head}: {result.error}")
        return
    if result.kept:
        say(
            f"{head}: {counted(len(result.kept), 'file')} in {clean(result.folder)} changed here and kept, such as "
            f"{clean(result.kept[0])}; use --overwrite or --keep-both"
        )
    if not quiet:
        print(f"{head}: {counted(result.files, 'file')} {format_memory(result.size_bytes)} -> {clean(result.folder)}/")
        for line in result.not_brought():
            print(f"  {line}")


def _total(results: Sequence[Fetched], into: Path) -> str:
    from racksack_jobspecs.units import format_memory

    good = [result for result in results if result.error is None]
    if not results:
        return "nothing new"
    size = format_memory(sum(result.size_bytes for result in good))
    files = counted(sum(result.files for result in good), "file")
    return f"{counted(len(good), 'job')}, {files}, {size} in {clean(into)}/"


def _facts(result: Fetched) -> dict[str, object]:
    return {
        "id": result.job.id,
        "name": result.job.name,
        "state": result.job.state,
        "exit_code": result.job.exit_code,
        "folder": str(result.folder.absolute()),
        "files": result.files,
        "size_bytes": result.size_bytes,
        "kept": result.kept,
        "error": result.error,
    }


def _code(results: Sequence[Fetched]) -> ExitCode:
    failed = [result for result in results if result.error is not None]
    conflicts = [result for result in results if result.kept]
    if not failed and not conflicts:
        return ExitCode.OK
    if len(failed) == len(results):
        return ExitCode.NOT_FOUND if all(result.deleted for result in failed) else ExitCode.TRANSFER
    return ExitCode.REFUSED if len(conflicts) == len(results) else ExitCode.PARTIAL
