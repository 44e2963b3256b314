"""Words of other schedulers (Slurm, pueue, sky and the like): what to write instead of them here.

Each entry of a table is the end of a sentence that begins with "there is no option ..." or "there is no command ...".
"""

from __future__ import annotations

import re

import click

OPTIONS = {
    "--gres": "write -G 2, or -G rtx3090:2",
    "--wrap-cmd": "write --wrap",
    "--chdir": "jobs run in their own copy of DIR; name the folder as DIR",
    "-D": "jobs run in their own copy of DIR; name the folder as DIR",
    "--workdir": "name the folder as DIR",
    "--output": "stdout comes back as stdout.log by itself; for files that are to come back write --out GLOB",
    "-o": "stdout comes back as stdout.log by itself; for files that are to come back write --out GLOB",
    "--error": "stderr comes back as stderr.log by itself",
    "--export": "write -e NAME=VALUE, or -e NAME to take it from here; nothing else of this shell reaches the job",
    "--nice": "write --priority -10",
    "--qos": "write --priority N, or -p PARTITION",
    "--account": "jobs belong to the user who submits them; leave it out",
    "-A": "jobs belong to the user who submits them; leave it out",
    "--ntasks": "write -c N for CPUs, -N N for N nodes, or -a 0-9 for ten jobs",
    "--ntasks-per-node": "write -c N for the CPUs of each node",
    "--mem-per-cpu": "write --ram SIZE for the whole job",
    "--exclusive": "write -c with all CPUs of the node",
    "--mail-type": "write --notify NAME, of `notify` in racksack.yaml, or --wait",
    "--mail-user": "write --notify NAME, of `notify` in racksack.yaml, or --wait",
    "--requeue": "write --retries N; jobs of a lost node are queued again by themselves",
    "--no-requeue": "leave it out; only jobs of a lost node are queued again",
    "--group": "name jobs alike with -J NAME",
    "--after-any": "write -d any:ID",
    "--label-name": "write -C LABEL",
    "--image": "jobs run in a venv on the node, without containers",
    "--container-image": "jobs run in a venv on the node, without containers",
    "--cloud": "jobs run on the servers of this controller",
    "--num-nodes": "write -N N",
    "--immediate": "jobs start as soon as there is room",
    "--delay": "write --begin +2h",
    "--follow-logs": "write -f",
    "--resume": "write `racksack sweep resume ID` to continue a sweep that was stopped",
}
COMMANDS = {
    "squeue": "status",
    "sinfo": "nodes",
    "sacct": "history",
    "sbatch": "submit",
    "srun": "submit -f",
    "salloc": "submit --interactive",
    "scancel": "cancel",
    "sprio": "why ID",
    "scontrol": "status ID, hold, release, drain or resume",
    "sattach": "attach",
    "info": "status ID",
    "show": "status ID",
    "ls": "status",
    "list": "status",
    "top": "status -w",
    "run": "submit",
    "exec": "attach --shell ID",
    "ssh": "attach --shell ID",
    "clean": "fetch --delete-after",
    "add": "submit",
    "follow": "logs -f",
    "tail": "logs -f",
    "down": "power off NODE",
    "up": "power on NODE",
    "start": "release",
    "pause": "hold",
    "stash": "hold",
    "enqueue": "release",
    "results": "fetch",
    "download": "fetch",
    "check": "doctor",
    "jobs": "status",
}


def option_hint(name: str) -> str | None:
    """What to write in place of another tool's option; None for one that no table has."""
    return OPTIONS.get(name.partition("=")[0])


def command_hint(name: str) -> str | None:
    """The command that does what another tool's command of this name does."""
    return COMMANDS.get(name)


def check_time(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse `10:00`, which is ten minutes to Slurm and looks like ten hours."""
    if value is not None and (parts := re.fullmatch(r"([0-9]+):([0-9]+)", value.strip())):
        first = int(parts[1])
        raise click.BadParameter(f"{value} could be {first} minutes or {first} hours; write {first}m, or {first}h")
    return value


def check_name(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Refuse names that mean something else where jobs are named; `-n 4` is four tasks to Slurm."""
    if value is not None and re.fullmatch(r"[0-9]+", value):
        raise click.BadParameter(f"{value} would be taken for a job's id; for {value} CPUs write -c {value}")
    if value is not None and re.fullmatch(r"last|[0-9]+(-[0-9]+|\[.*\]|_[0-9]+)", value):
        raise click.BadParameter(f"{value} names other jobs already; choose another name")
    return value
