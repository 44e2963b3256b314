"""`submit DIR ENTRY [options] [-- arguments]` and `submit job.yaml [options]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from racksack.cli import complete, controller_option, json_option, open_client, version_option
from racksack.commands import shared
from racksack.familiar import check_name, check_time

if TYPE_CHECKING:
    from racksack.submission.command import JobWish


resource_options = shared.together(  # what the job needs
    click.option("-c", "--cpus", "--cpus-per-task", "cpus", metavar="N", help="CPU cores, 0.5 is allowed. [1]"),
    click.option("--ram", "--mem", "--memory", "ram", metavar="SIZE", help="Main memory, such as 32G. [1G]"),
    click.option(
        "-t", "--time", "--time-limit", "time_limit", metavar="TIME", callback=check_time, help="2h, 90m, 1-12:00:00."
    ),
    click.option("-N", "--nodes", "--gang", "gang", metavar="N", help="Run on N nodes at once, one rank on each. [1]"),
    click.option("-G", "--gpus", metavar="[MODEL:]N", help="GPUs, such as 2 or rtx3090:2."),
    shared.VRAM,
    click.option("--gpu-share", metavar="PART", help="A share of one GPU, such as 0.5."),
    shared.DISK,
)

job_options = shared.together(  # what the job is and how it is run
    click.option(
        "-J", "-n", "--name", "--job-name", "name", metavar="NAME", callback=check_name, help="Name of the job."
    ),
    click.option("-a", "--array", metavar="RANGE", help="One job for each index: 0-99, 0-99%8."),
    shared.PRIORITY,
    shared.AFTER,
    click.option("-b", "--begin", metavar="WHEN", help="20:00, 2026-08-01T20:00, or +2h."),
    shared.many("-e", "--env", metavar="NAME=VALUE", help="An environment variable; NAME alone takes it from here."),
    shared.ENV_FILE,
    shared.NODE,
    shared.EXCLUDE_NODE,
    shared.many("-C", "--constraint", "--label", "labels", metavar="LABEL", help="A label the node must have."),
    click.option("-p", "--partition", metavar="NAME", help="The partition (set of nodes) to run in."),
    click.option("--retries", metavar="N", help="Number of retries."),
    shared.many("--retry-on", metavar="WHAT", help="exit, exit:29,31, oom, timeout, node."),
    shared.many("--no-retry-on", metavar="WHAT", help="Failures that are not retried after all: exit:2."),
    click.option("--retry-delay", metavar="TIME", help="Time before the first retry; doubled each time. [1s]"),
    click.option("--oom-factor", metavar="F", help="After oom, retry with F times the memory, such as 1.5."),
    shared.many("--out", "outputs", metavar="GLOB", help="Files to bring back, besides the return folder."),
    click.option("--new-files", metavar="WHICH", help="New files to bring back: small, all, none. [small]"),
    click.option("--max-output", metavar="SIZE", help="Bring back at most this much. [10G]"),
    shared.PYTHON,
    shared.REQUIREMENTS,
    shared.NO_VENV,
    shared.many("--extra", metavar="NAME", help="Install this extra of pyproject.toml."),
    shared.many("--group", metavar="NAME", help="Install this dependency group of pyproject.toml."),
    click.option("-i", "--index-url", metavar="URL", help="Ask this package index; ${NAME} in it is a --secret."),
    shared.many("--extra-index-url", metavar="URL", help="Ask this package index, too."),
    shared.many("--secret", metavar="NAME", help="A secret of the controller, as an environment variable."),
    shared.many("--shared", metavar="PATH", help="Link this part of the project, read-only, in place of a copy."),
    shared.many("--ramdisk", metavar="PATH", help="Copy this part of the project to RAM on the node."),
    click.option("--grace", metavar="TIME", help="Time between the signal to end and the kill. [10s]"),
    click.option(
        "--warn", "--signal", "warn", metavar="TIME[:SIGNAL]", help="Send a signal this long before it is stopped."
    ),
    click.option("--every", metavar="WHEN", help='Submit it again and again: "Mon 02:00", 15m, "0 2 * * 1".'),
    click.option("--zone", metavar="ZONE", help="Time zone of --every. [this machine's]"),
    click.option(
        "--overlap",
        metavar="WHAT",
        type=click.Choice(["skip", "queue"]),
        help="When a run is due and the last one is not over: skip, queue. [skip]",
    ),
    shared.many("--notify", metavar="NAME[:END]", help="Notify this entry of `notify:` in racksack.yaml at the end."),
    shared.many("--resubmit-on", metavar="CODE", help="Exit code that means `run me again`; not a retry."),
    shared.many("--checkpoint", metavar="PATH", help="What it saves to go on from; its next attempt finds it there."),
    click.option("--checkpoint-every", metavar="TIME", help="How often that is brought to the controller. [10m]"),
    click.option("--slurm-env", is_flag=True, help="Set the usual SLURM_* variables, too."),
    click.option("--interactive", is_flag=True, help="Let it read from the terminal that `attach` shows."),
    click.option("--hold", is_flag=True, help="Hold it until `racksack release`."),
    click.option("--deadline", metavar="WHEN", help="When it should have finished; written like --begin."),
    click.option("--preemptible", is_flag=True, help="It may be stopped and requeued for a more important job."),
    shared.NO_WAKE,
    click.option("--submission-key", "submission", metavar="KEY", help="Submit with the same key twice, get one job."),
)

client_options = shared.together(  # what this command does beside submitting
    shared.DATA,
    shared.EXCLUDE,
    shared.INCLUDE,
    click.option("--wait", is_flag=True, help="Wait until it ends; exit with its outcome."),
    click.option("-f", "--follow", is_flag=True, help="Follow its output until it ends."),
    click.option("--fetch", metavar="DIR", help="Wait, then fetch the results into DIR."),
    click.option("--exit-code", is_flag=True, help="With --wait or --follow: exit with the program's own exit code."),
    click.option(
        "--dry-run", "--test-only", is_flag=True, help="Print the receipt and the nodes it fits on; send nothing."
    ),
    click.option("--parsable", is_flag=True, help="Print the id alone."),
    shared.QUIET,
    click.option("-y", "--yes", is_flag=True, help="Has no effect: submit never asks."),
)


@click.command("submit", cls=shared.SubmitCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("project", metavar="DIR", default=".", type=click.Path())
@click.argument("entrypoint", metavar="ENTRY", required=False, shell_complete=complete("entries"))
@click.option("--wrap", metavar="COMMAND", help="Run this shell command line in DIR. [DIR: .]")
@resource_options
@job_options
@client_options
@json_option
@controller_option
@version_option("-V", "--version")
def command(controller: str | None, **options: Any) -> int:  # noqa: ANN401
    """Submit a job: send the folder DIR and have ENTRY in it run, with the arguments after `--`.

    \b
      submit ./project main.py --cpus 16 --ram 32G -- --epochs 10
      submit run.sh
      submit . -- python -m package --epochs 10
      submit --wrap "make && ./model"
      submit job.yaml

    With a job file, its `project` is a folder on this machine, and command-line options override it. Lines such as
    `#JOB --cpus 16` at the top of ENTRY are options too; the command line overrides them.
    """  # noqa: D301 - \b keeps click from joining the lines
    from racksack.submission import command as submitting

    context = click.get_current_context()
    given = context.get_parameter_source("project") is click.core.ParameterSource.COMMANDLINE
    if not given and options["wrap"] is None and not context.meta["racksack.arguments"]:
        raise click.UsageError("name what to run: submit DIR ENTRY, submit run.sh, or submit DIR -- COMMAND")
    wish: JobWish = submitting.wish_of(_with_entry_file(context, options), context.meta["racksack.arguments"])
    with open_client(controller) as client:
        return submitting.run(client, wish)


def _with_entry_file(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with those that stand in the entry file."""
    from racksack.submission import forms

    project, entrypoint = forms.script_alone(Path(options["project"]).expanduser(), options["entrypoint"])
    options = {**options, "project": project, "entrypoint": entrypoint}
    if entrypoint is None:
        return options
    from racksack.submission.command import inside
    from racksack.submission.entry_options import merged

    given = click.core.ParameterSource.COMMANDLINE
    explicit = frozenset(name for name in options if context.get_parameter_source(name) is given)
    return merged(context.command, options, explicit, project / inside(project, options["entrypoint"]))
