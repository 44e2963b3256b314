"""`submit DIR ENTRY [options] [-- arguments]` and `submit job.yaml [options]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from racksack.cli import F, controller_option, json_option, open_client

if TYPE_CHECKING:
    from racksack.submitting import Wishes


class SubmitCommand(click.Command):
    """A command whose own arguments end at `--`: everything after it belongs to the job."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside what follows `--`, and say so when an unknown option was probably meant for the program."""
        own, after = _split(args)
        ctx.meta["racksack.arguments"] = after
        try:
            return super().parse_args(ctx, own)
        except click.NoSuchOption as error:
            known = f"; did you mean {error.possibilities[0]}?" if error.possibilities else ""
            message = f"there is no option {error.option_name}{known} (options for your program go after --)"
            raise click.UsageError(message, ctx) from None


def _split(args: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    words = list(args)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], tuple(words[at + 1 :])


def _many(*names: str, **settings: Any) -> Any:  # noqa: ANN401 - click's decorators are untyped here
    return click.option(*names, multiple=True, **settings)


def resource_options(function: F) -> F:
    """What the job needs."""
    for option in (
        click.option("--disk", metavar="SIZE", help="Free disk space the node must have."),
        click.option("--gpu-share", metavar="PART", help="A part of one GPU, such as 0.5."),
        click.option("--vram", metavar="SIZE", help="The least memory of each GPU."),
        click.option("-G", "--gpus", metavar="[MODEL:]N", help="GPUs, such as 2 or rtx3090:2."),
        click.option("-N", "--nodes", "--gang", "gang", metavar="N", help="On N nodes at once, a rank on each. [1]"),
        click.option("-t", "--time", "--time-limit", "time_limit", metavar="TIME", help="2h, 90m, 1-12:00:00."),
        click.option("--ram", "--mem", "--memory", "ram", metavar="SIZE", help="Main memory, such as 32G. [1G]"),
        click.option("-c", "--cpus", "--cpus-per-task", "cpus", metavar="N", help="CPU cores, 0.5 is allowed. [1]"),
    ):
        function = option(function)
    return function


def job_options(function: F) -> F:
    """What the job is and how it is run."""
    for option in (
        click.option("--submission-key", "submission", metavar="KEY", help="The same key twice is one job."),
        click.option("--no-wake", is_flag=True, help="Do not switch a node on for it."),
        click.option("--preemptible", is_flag=True, help="It may be ended and queued again for a more important job."),
        click.option("--deadline", metavar="WHEN", help="It should have ended by then; written as --begin."),
        click.option("--hold", is_flag=True, help="Wait until it is released."),
        _many("--ramdisk", metavar="PATH", help="Copy this part of the project to RAM on the node."),
        click.option("--no-venv", is_flag=True, help="Make no venv."),
        click.option("--requirements", metavar="FILE", help="The requirements file, inside the project."),
        click.option("--python", metavar="VERSION", help="Python version of the venv."),
        click.option("--max-output", metavar="SIZE", help="More than this does not come back. [10G]"),
        _many("--out", "--output", "outputs", metavar="GLOB", help="Files that come back, beside the return folder."),
        click.option("--oom-factor", metavar="F", help="After oom try again with F times the memory, such as 1.5."),
        _many("--retry-on", metavar="WHAT", help="exit, oom, timeout, node."),
        click.option("--retries", metavar="N", help="Try again so often."),
        click.option("-p", "--partition", metavar="NAME", help="The set of nodes to run in."),
        _many("-C", "--constraint", "--label", "labels", metavar="LABEL", help="A label the node must have."),
        _many("-x", "--exclude-node", metavar="NODE", help="Not this node."),
        _many("-w", "--node", "--nodelist", "nodes", metavar="NODE", help="Only this node."),
        click.option("--env-file", metavar="FILE", help="NAME=VALUE lines."),
        _many("-e", "--env", metavar="NAME=VALUE", help="An environment variable; NAME alone takes it from here."),
        click.option("-b", "--begin", metavar="WHEN", help="20:00, 2026-08-01T20:00, or +2h."),
        _many("-d", "--after", "--dependency", "after", metavar="ID", help="Start after this job is done; any:ID."),
        click.option("--priority", metavar="N", help="-1000 to 1000, higher goes first."),
        click.option("-a", "--array", metavar="RANGE", help="One job for each index: 0-99, 0-99%8."),
        click.option("-J", "-n", "--name", "--job-name", "name", metavar="NAME", help="Name of the job."),
    ):
        function = option(function)
    return function


def client_options(function: F) -> F:
    """What this command does beside submitting."""
    for option in (
        click.option("-y", "--yes", is_flag=True, help="Accepted for scripts; it never asks."),
        click.option("-q", "--quiet", is_flag=True, help="No receipt, no progress."),
        click.option("--parsable", is_flag=True, help="Print the id alone."),
        click.option("--dry-run", "--test-only", is_flag=True, help="Print receipt and fitting nodes; send nothing."),
        click.option("--exit-code", is_flag=True, help="With --wait or --follow: end with the program's own code."),
        click.option("--fetch", metavar="DIR", help="Wait, then bring the results to DIR."),
        click.option("-f", "--follow", is_flag=True, help="Show what it prints until it ends."),
        click.option("--wait", is_flag=True, help="Wait until it ends; the exit code says how."),
        _many("--include", metavar="PATTERN", help="Send this although a rule leaves it out."),
        _many("--exclude", metavar="PATTERN", help="Do not send this (a .gitignore pattern)."),
    ):
        function = option(function)
    return function


@click.command("submit", cls=SubmitCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("project", metavar="DIR")
@click.argument("entrypoint", metavar="ENTRY", required=False)
@resource_options
@job_options
@client_options
@json_option
@controller_option
def command(controller: str | None, **options: Any) -> int:  # noqa: ANN401
    """Submit a job: send the folder DIR and have ENTRY in it run, with the arguments after `--`.

    \b
      submit ./project main.py --cpus 16 --ram 32G -- --epochs 10
      submit job.yaml

    With a job file, its `project` is a folder on this machine, and options win over what it says. Lines such as
    `#JOB --cpus 16` at the top of ENTRY are options too, and those given here win.
    """  # noqa: D301 - \b keeps click from joining the lines
    from racksack import submitting

    context = click.get_current_context()
    wishes: Wishes = submitting.wishes(_with_entry_file(context, options), context.meta["racksack.arguments"])
    with open_client(controller) as client:
        return submitting.run(client, wishes)


def _with_entry_file(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with those that stand in the entry file."""
    if options["entrypoint"] is None:
        return options
    from racksack.entry_options import merged
    from racksack.submitting import inside

    project = Path(options["project"]).expanduser()
    given = click.core.ParameterSource.COMMANDLINE
    explicit = frozenset(name for name in options if context.get_parameter_source(name) is given)
    return merged(context.command, options, explicit, project / inside(project, options["entrypoint"]))
