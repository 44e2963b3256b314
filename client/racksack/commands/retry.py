"""`racksack retry`: finished jobs again, as they were or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from racksack.cli import complete, controller_option, for_each, json_option, open_client
from racksack.commands import shared
from racksack.commands.submit import resource_options
from racksack.text import clean, print_json

if TYPE_CHECKING:
    from racksack.client import Client
    from racksack.submission.draft import Value


@click.command("retry", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("ids", metavar="ID...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@resource_options
@shared.NODE
@shared.EXCLUDE_NODE
@shared.many("-e", "--env", metavar="NAME=VALUE", help="Set another environment variable.")
@shared.PRIORITY
@click.option(
    "--from-checkpoint", is_flag=True, help="Go on from its newest checkpoint; else it starts from the beginning."
)
@click.option("--edit", is_flag=True, help="Edit its job file in $EDITOR first.")
@click.option("--wait", is_flag=True, help="Wait until they end; exit with their outcome.")
@click.option("-f", "--follow", is_flag=True, help="Follow their output until they end.")
@json_option
@controller_option
def command(
    ids: tuple[str, ...],
    edit: bool,
    from_checkpoint: bool,
    wait: bool,
    follow: bool,
    as_json: bool,
    controller: str | None,
    **options: Any,  # noqa: ANN401
) -> int:
    """Run finished jobs again, with the same project and arguments.

    With anything changed it is a new job of the same content, and the old one stays as it is.
    """
    from racksack.submission.option_values import environment, gpu_value

    keys = ("cpus", "ram", "time_limit", "disk", "gang", "priority")
    changes: dict[str, Value | None] = {key: options[key] for key in keys}
    changes["gpus"] = gpu_value(options["gpus"], options["vram"], options["gpu_share"])
    changes["nodes"] = ",".join(options["nodes"]) or None
    changes["exclude"] = ",".join(options["exclude_node"]) or None
    given = {key: value for key, value in changes.items() if value is not None}
    env = environment(options["env"], None)
    if from_checkpoint and (given or env or edit):
        raise click.UsageError("--from-checkpoint runs the job as it was; leave out what changes it")
    running: list[int] = []
    with open_client(controller) as client:

        def again(job_id: int) -> None:
            new_id = None
            if given or env or edit:
                new_id = _changed(client, job_id, given, env, edit)
            else:
                client.act(job_id, "retry", from_checkpoint=from_checkpoint or None)
            running.append(new_id or job_id)
            _tell(job_id, new_id, as_json)

        code = for_each(sorted(client.resolve(ids)), again)  # what others wait for has the lower id
        if not running or not (wait or follow):
            return code
        from racksack.waiting import see_through

        ended = see_through(client, running, follow=follow, quiet=as_json)
    return code or ended


def _changed(client: Client, job_id: int, given: dict[str, Value], env: dict[str, str], edit: bool) -> int:
    """Hand in a changed job of the same content; its id."""
    from racksack.submission.resubmission import changed, resubmit

    job = client.job(job_id)
    return resubmit(client, changed(job, given, env, click.edit if edit else None))


def _tell(job_id: int, new_id: int | None, as_json: bool) -> None:
    if as_json:
        print_json({"id": new_id or job_id, "retry": True, "of": job_id})
    else:
        click.echo(clean(f"{job_id} queued again" + (f" as {new_id}" if new_id else "")))
