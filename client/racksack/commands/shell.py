"""`racksack shell`: a job that one works in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from racksack.cli import controller_option, open_client
from racksack.commands import shared
from racksack.errors import RacksackError, UsageError
from racksack.text import clean, say

if TYPE_CHECKING:
    from racksack.client import Client

ENTRY = "session.sh"
SESSION = """#!/bin/sh
[ $# -gt 0 ] && exec "$@"
exec "${SHELL:-/bin/bash}" -i
"""


@click.command("shell", cls=shared.SubmitCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("project", metavar="[DIR]", required=False)
@click.option("-c", "--cpus", metavar="N", help="CPU cores. [1]")
@click.option("--ram", "--mem", "ram", metavar="SIZE", help="Main memory. [1G]")
@click.option("-G", "--gpus", metavar="[MODEL:]N", help="GPUs.")
@click.option("-t", "--time", "time_limit", metavar="TIME", help="End the session after this time. [8h]")
@click.option("-J", "--name", metavar="NAME", help="Name of the job. [shell]")
@shared.NODE
@shared.DATA
@controller_option
def command(controller: str | None, project: str | None, data: tuple[str, ...], **options: Any) -> int:  # noqa: ANN401
    """Work on a node: a shell, or the program after `--`, in a job with a terminal.

    \b
      racksack shell --cpus 4 --gpus 1
      racksack shell ./project --ram 32G -- python3 -i

    With DIR the session starts in a copy of it. A server that is off is switched on. Detach with the keys that are
    shown and come back with `racksack attach ID`; the job ends when the shell does.
    """  # noqa: D301 - \b keeps click from joining the lines
    arguments: list[str] = click.get_current_context().meta["racksack.arguments"]
    with open_client(controller) as client:
        number = _submit(client, project, data, options, arguments)
        say(f"Submitted job {number} ({clean(options['name'] or 'shell')})")
        _wait_for_start(client, number)
        return _attach(client, number)


def _submit(
    client: Client, project: str | None, data: tuple[str, ...], options: dict[str, Any], arguments: list[str]
) -> int:
    """Its id. A given folder is sent with the script of the session beside what it holds."""
    from racksack.api import submit_spec
    from racksack.submission.draft import spec_of_options
    from racksack.submission.project import copy_selected, select

    values = {
        "project": "local",
        "entrypoint": ENTRY,
        "args": arguments or None,
        "name": options["name"] or "shell",
        "interactive": True,
        "time_limit": options["time_limit"] or "8h",
        "nodes": ",".join(options["nodes"]) or None,
        **{key: options[key] for key in ("cpus", "ram", "gpus")},
    }
    if project is None:
        values["environment"] = "none"
    with tempfile.TemporaryDirectory(prefix="racksack-shell-") as made:
        folder = Path(made)
        if project is not None:
            copy_selected(select(Path(project).expanduser()), folder)
        script = folder / ENTRY
        if script.exists():
            raise UsageError(f"{clean(project)} has a file {ENTRY}, a name that the session needs; rename it")
        script.write_text(SESSION)
        script.chmod(0o755)
        [job] = submit_spec(spec_of_options(values), folder, data=data, controller=client)
    return job.id


def _wait_for_start(client: Client, number: int) -> None:
    """Say why it waits, until its terminal is there. Raises RacksackError when it ends before."""
    from racksack.waiting import leaving_alone
    from racksack_jobspecs.states import FINAL, JobState

    told = ""
    with leaving_alone([number]):
        state = ""
        while (job := client.job(number, seen=state, wait_s=20 if state else 0)).state != JobState.RUNNING:
            if job.state in FINAL:
                raise RacksackError(f"the session ended before it started: {clean(job.outcome_reason or job.state)}")
            if job.why and job.why != told:
                told = job.why
                say(clean(told))
            state = job.state


def _attach(client: Client, number: int) -> int:
    import subprocess

    way = client.attach(number, shell=False, view=False, rank=None)
    host = client.target.host
    argv = way.argv
    if host is not None:
        from racksack.transport import ssh

        argv = ssh.terminal_command(host, way.argv)
    if way.hint:
        say(clean(way.hint))
    code = subprocess.run(argv, check=False).returncode
    if client.job(number).state == "running":
        say(f"The session goes on: `racksack attach {number}` returns to it, `racksack cancel {number}` ends it")
    return code
