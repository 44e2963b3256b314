"""`racksack status`: the queue, active jobs first, the last finished ones, and a strip of the nodes; or one job's
story.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from racksack.arrays import folded, group_label
from racksack.cli import complete, controller_option, for_each, json_option, open_client, watch_option
from racksack.ends import explained
from racksack.text import clean, counted, gpu_text, paint, print_json, short_local, show_screen, state_colour, table

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.views import JobView, NodeView

_HEADER = ("ID", "NAME", "USER", "STATE", "NODE", "CPU", "RAM", "GPU", "SUBMITTED", "RUN-TIME", "WHY")
_RIGHT = ("ID", "CPU", "RAM", "GPU", "RUN-TIME")


@click.command("status", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="[ID]...", shell_complete=complete("job_ids"), nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Include all finished jobs, however old.")
@click.option("-u", "--user", "owner", metavar="USER", help="Only this user's jobs; `me` for mine.")
@click.option("-r", "--expand", is_flag=True, help="Show one line for each job of an array.")
@click.option("--state", metavar="STATE,...", shell_complete=complete("states"), help="Only jobs in these states.")
@click.option("--sweeps", is_flag=True, help="Show sweeps, as `racksack sweep status` does.")
@watch_option
@json_option
@controller_option
def command(
    ids: tuple[str, ...],
    sweeps: bool,
    everything: bool,
    owner: str | None,
    state: str | None,
    expand: bool,
    watch: float | None,
    as_json: bool,
    controller: str | None,
) -> int:
    """Show the queue and the nodes; with ids, each job's whole story."""
    if sweeps:
        from racksack.commands import sweep_look

        wanted = {"ids": ids, "everything": everything, "owner": owner, "watch": watch is not None}
        shown: int = click.get_current_context().invoke(
            sweep_look.status, **wanted, as_json=as_json, controller=controller
        )
        return shown
    with open_client(controller) as client:
        while True:
            code = _show(client, ids, everything, owner, state, as_json, clear=watch is not None, expand=expand)
            if watch is None:
                return code
            time.sleep(watch)


def _show(
    client: Client,
    ids: Sequence[str],
    everything: bool,
    owner: str | None,
    state: str | None,
    as_json: bool,
    clear: bool,
    expand: bool,
) -> int:
    if ids:
        return for_each(client.resolve(ids), lambda job_id: _story(client, job_id, as_json))
    import msgspec

    if everything or owner or state:
        jobs = client.jobs(owner=owner, state=state.lower() if state else None, all=1 if everything or state else None)
        if as_json:
            print_json(msgspec.to_builtins(jobs))
        else:
            show_screen(queue_table(jobs, expand=expand, now_s=client.now_s()), clear=clear)
        return 0
    whole = client.status()
    missing = whole.jobs_total - sum(not job.is_final for job in whole.jobs)
    cut = ""
    if missing > 0 and (as_json or not sys.stdout.isatty()):  # piped, nothing is ever cut
        whole = msgspec.structs.replace(whole, jobs=_completed(client, whole.jobs))
    elif missing > 0:
        cut = f"\n... and {counted(missing, 'job')} more; `racksack status -u me` lists yours, `| cat` all"
    if as_json:
        print_json(msgspec.to_builtins(whole))
    else:
        queue = (
            queue_table(whole.jobs, expand=expand, now_s=whole.controller.get("now_s"))
            if whole.jobs
            else "no jobs; submit one: submit DIR ENTRY"
        )
        show_screen(f"{queue}{cut}\n\n{node_strip(whole.nodes)}", clear=clear)
    return 0


def _completed(client: Client, jobs: Sequence[JobView]) -> list[JobView]:
    """With all jobs that are not over, however many."""
    known = {job.id for job in jobs}
    others = [job for job in reversed(client.jobs()) if job.id not in known and not job.is_final]
    return [job for job in jobs if not job.is_final] + others + [job for job in jobs if job.is_final]


def queue_table(jobs: Sequence[JobView], *, expand: bool = False, now_s: float | None = None) -> str:
    """Jobs as a table, with those of an array on one line that are in one state, unless expanded."""
    if not jobs:
        return "no jobs"
    now_s = time.time() if now_s is None else now_s  # by the controller's clock where it was told
    return table(
        _HEADER,
        [_row(group, now_s) for group in ([[job] for job in jobs] if expand else folded(jobs))],
        right=_RIGHT,
        state="STATE",
    )


def _row(group: Sequence[JobView], now_s: float) -> list[str]:
    job = group[0]
    from racksack_jobspecs.units import format_cpus, format_memory

    return [
        group_label(group),
        job.name,
        str(job.owner),
        job.state.upper(),
        job.node or "-",
        format_cpus(job.cpus),
        format_memory(job.ram_bytes),
        gpu_text(job.gpus),
        short_local(job.submitted_at_s),
        _run_time(job, now_s) if len(group) == 1 else "-",
        explained((job.outcome_reason if job.is_final else job.why) or ""),
    ]


def _run_time(job: JobView, now_s: float) -> str:
    from racksack_jobspecs.units import format_duration

    if job.started_at_s is None:
        return "-"
    return format_duration(max(0.0, (job.ended_at_s or now_s) - job.started_at_s))


def node_strip(nodes: Sequence[NodeView]) -> str:
    """A line per node: state, and how full it is."""
    from racksack_jobspecs.units import format_memory

    if not nodes:
        return "no nodes"
    lines = []
    width = max(len(clean(node.name)) for node in nodes)
    for node in nodes:
        gpus = f"  GPU {node.gpus_text}" if node.gpus or node.gpus_set_aside else ""
        ram = f"{format_memory(round(node.ram_bytes.used))}/{format_memory(round(node.ram_bytes.total))}"
        state = paint(f"{clean(node.state).upper():<11}", state_colour(node.state))
        reason = "" if node.state == "up" else node.reasons  # how full it is stands there already
        why = f"  {clean(reason)}" if reason else ""
        cpus = f"CPU {node.cpus.used:g}/{node.cpus.total:g}"
        lines.append(f"{clean(node.name):<{width}}  {state}  {cpus}  RAM {ram}{gpus}  jobs {len(node.jobs)}{why}")
    return "\n".join(lines)


def _story(client: Client, job_id: int, as_json: bool) -> None:
    job = client.job(job_id)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(job))
        return
    from racksack.ends import last_words
    from racksack.story import story

    click.echo(story(job, last_words(client, job)))
