"""`racksack usage`: what jobs used of what they asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, for_each, json_option, open_client
from racksack.text import clean, print_json

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.views import JobUsage, ProgramUsage


@click.command("usage", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="JOB...", shell_complete=complete("job_ids"), nargs=-1)
@click.option("--project", metavar="NAME", help="All runs of jobs with this name, ignoring numbers in it.")
@click.option(
    "--since", metavar="TIME", default="30d", show_default=True, help="Without JOB: ended in the last 2h, ..."
)
@click.option("-u", "--user", "owner", metavar="USER", default="me", help="Without JOB: whose. [me]; `all` for all.")
@json_option
@controller_option
def command(
    ids: tuple[str, ...], project: str | None, since: str, owner: str, as_json: bool, controller: str | None
) -> int:
    """Show what jobs used of the CPUs, memory and time they asked for; without JOB, one line per program."""
    import msgspec

    from racksack_jobspecs.units import parse_duration

    if ids and project:
        raise click.UsageError("name jobs, or a project with --project, not both")
    try:
        ago_s = parse_duration(since)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from None
    with open_client(controller) as client:
        if ids:
            return for_each(ids, lambda name: _tell(client, name, as_json))
        programs = client.usage_of_programs(
            project=project, since_s=client.now_s() - ago_s, owner=None if owner == "all" else owner
        )
    if as_json:
        print_json(msgspec.to_builtins(programs))
    elif programs:
        click.echo("\n".join(_table(programs)))
    else:
        click.echo("no runs")
    return 0


def _tell(client: Client, name: str, as_json: bool) -> None:
    import msgspec

    for job_id in client.resolve([name]):
        usage = client.usage(job_id)
        if as_json:
            print_json(msgspec.to_builtins(usage))
        else:
            click.echo("\n".join(_lines(usage)))


def _lines(usage: JobUsage) -> Iterator[str]:
    from racksack_jobspecs.units import format_cpus, format_duration, format_memory

    where = f" on {clean(usage.node)}" if usage.node else ""
    code = "" if usage.exit_code is None else f", exit code {usage.exit_code}"
    yield f"Job {usage.job} ({clean(usage.name)}) of {clean(usage.owner)}: {clean(usage.state)}{where}{code}"
    later = "known once it has ended"
    if usage.cpu_s is None or not usage.wall_s:
        yield f"  CPU     {format_cpus(usage.cpus)} asked; {later}"
    else:
        busy = usage.cpu_s / usage.wall_s
        cpus = f"{busy:.2f} of {format_cpus(usage.cpus)} busy on average"
        yield f"  CPU     {cpus}{_percent(usage.cpu_efficiency)}, {format_duration(usage.cpu_s)} of CPU time"
    asked = format_memory(usage.ram_bytes)
    if usage.ram_peak_bytes is None:
        yield f"  memory  {asked} asked; {later}"
    else:
        yield f"  memory  {format_memory(usage.ram_peak_bytes)} of {asked} at most{_percent(usage.ram_efficiency)}"
    yield f"  GPUs    {clean(usage.gpus) or 'none'}"
    waited = f"waited {format_duration(usage.waited_s)}"
    if usage.wall_s is None:
        yield f"  time    not started; {waited}"
    else:
        limit = f" of {format_duration(usage.time_limit_s)}" if usage.time_limit_s else ", no time limit"
        yield f"  time    {format_duration(usage.wall_s)}{limit}{_percent(usage.time_efficiency)}, {waited}"
    yield from (f"  advice  {clean(sentence)}" for sentence in usage.advice)


def _percent(part: float | None) -> str:
    return "" if part is None else f" ({part:.0%})"


def _table(programs: list[ProgramUsage]) -> Iterator[str]:
    from racksack_jobspecs.units import format_memory

    names = [clean(f"{one.name} ({one.entrypoint})") for one in programs]
    owners = [clean(one.owner) for one in programs]
    wide, wider = max(map(len, [*owners, "OWNER"])), max(map(len, [*names, "PROGRAM"]))
    yield f"{'OWNER':{wide}}  {'PROGRAM':{wider}}  {'RUNS':>6} {'FAILED':>6} {'CPU HOURS':>10} {'USED':>6}" + (
        f" {'GPU HOURS':>10} {'MEMORY':>7} {'PEAK':>7}"
    )
    for one, owner, name in zip(programs, owners, names, strict=True):
        used = f"{one.cpu_hours_used / one.cpu_hours_asked:.0%}" if one.cpu_hours_asked else "-"
        peak = format_memory(one.ram_peak_bytes) if one.ram_peak_bytes else "-"
        yield (
            f"{owner:{wide}}  {name:{wider}}  {one.runs:6} {one.failed:6} {one.cpu_hours_asked:10.1f} {used:>6}"
            f" {one.gpu_hours:10.1f} {format_memory(one.ram_bytes):>7} {peak:>7}"
        )
        yield from (f"{'':{wide}}  {clean(sentence)}" for sentence in one.advice)
