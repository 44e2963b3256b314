"""`racksack checkpoints` shows what jobs have saved; `racksack checkpoint`, in a job, says that it is complete."""

from __future__ import annotations

from typing import Any

import click

from racksack.cli import complete, controller_option, for_each, json_option, open_client
from racksack.errors import RacksackError
from racksack.text import clean, counted, print_json, table
from racksack_jobspecs.units import format_duration, format_memory

_SETTINGS = {"help_option_names": ["-h", "--help"]}


@click.command("checkpoints", context_settings=_SETTINGS)
@click.argument("ids", metavar="ID...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@json_option
@controller_option
def command(ids: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Show the checkpoints of jobs, newest first: what a job's next attempt goes on from."""
    with open_client(controller) as client:

        def show(job_id: int) -> None:
            found = client.get(dict[str, Any], f"jobs/{job_id}/checkpoints")
            if as_json:
                print_json({"id": job_id, **found})
            else:
                click.echo(_shown(job_id, found, client.now_s()))

        return for_each(client.resolve(ids), show)


def _shown(job_id: int, found: dict[str, Any], now_s: float) -> str:
    if not found["paths"]:
        return f"{job_id}: it saves no checkpoints; submit it with --checkpoint PATH"
    problem = f"\nlast try: {clean(found['problem'])}" if found["problem"] else ""
    if not found["checkpoints"]:
        every = format_duration(found["every_s"])
        return f"{job_id}: no checkpoint yet; one is taken every {every} of {clean(', '.join(found['paths']))}{problem}"
    rows = [
        (
            f"{job_id}.{one['attempt']}",
            str(one["number"]),
            f"{format_duration(max(0.0, round(now_s - one['taken_at_s'])))} ago",
            counted(one["files"], "file"),
            format_memory(one["bytes"]),
            clean(one["where"]),
            one["digest"][:12],
        )
        for one in found["checkpoints"]
    ]
    return table(("ATTEMPT", "NUMBER", "TAKEN", "FILES", "SIZE", "ON", "DIGEST"), rows) + problem


@click.command("checkpoint", context_settings=_SETTINGS)
def mark() -> int:
    """In a job: say that what it saved is complete now; returns once it is copied on the node."""
    from racksack.marking import checkpoint

    if not checkpoint():
        raise RacksackError(
            "this is not within a job that was submitted with --checkpoint; `racksack checkpoints ID` shows those"
        )
    return 0
