"""`racksack attach`: the terminal of a running job, wherever it runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from racksack import attach_argv
from racksack.cli import complete, controller_option, json_option, open_client
from racksack.errors import UsageError
from racksack.text import clean, print_json, say


@click.command("attach", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("job", metavar="ID", shell_complete=complete("job_ids"))
@click.option("-r", "--read-only", is_flag=True, help="Watch only; send no keystrokes.")
@click.option("--shell", is_flag=True, help="Open a shell in the job's folder, with its venv and GPUs.")
@click.option("--rank", metavar="K", type=click.IntRange(min=0), help="Rank K of a job on several nodes. [0]")
@json_option
@controller_option
def command(job: str, read_only: bool, shell: bool, rank: int | None, as_json: bool, controller: str | None) -> int:
    """Attach to a running job's terminal. Leaving it does not end the job; how to leave is said first."""
    if shell and read_only:
        raise click.UsageError("a shell is not read-only; use --shell or --read-only")
    with open_client(controller) as client:
        job_ids = client.resolve([job])
        if len(job_ids) != 1:
            raise UsageError("attach takes one job")
        way = client.attach(job_ids[0], shell=shell, view=read_only, rank=rank)
        target = client.target
    attach_argv.check(way.argv)
    argv, host = way.argv, target.host
    if host is not None:
        from racksack.transport import ssh

        argv = ssh.terminal_command(host, way.argv)
    if as_json:
        print_json({"argv": argv, "hint": way.hint})
        return 0
    if way.hint:
        say(clean(way.hint))
    if host is not None:
        return subprocess.run(argv, check=False).returncode
    other = attach_argv.user_to_run_as(Path(target.socket))
    if other is None:
        return subprocess.run(argv, check=False).returncode
    return subprocess.run(argv, check=False, user=other[0], group=other[1], extra_groups=()).returncode
