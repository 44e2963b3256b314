"""Entry points of `racksack`, `submit` and `fetch-results`. Nothing is imported here that `--help` does not need."""

from __future__ import annotations

import click

from racksack.cli import Lazy, LazyGroup, load, run, version_option

_JOBS = "Jobs"
_NODES = "Nodes"
_OPERATING = "Controller"

COMMANDS = {
    "submit": Lazy("racksack.commands.submit:command", "Submit a job: DIR ENTRY [options] [-- arguments].", _JOBS),
    "status": Lazy("racksack.commands.status:command", "Show the queue and the nodes, or one job's story.", _JOBS),
    "logs": Lazy("racksack.commands.logs:command", "Show what a job prints; -f follows it.", _JOBS),
    "why": Lazy("racksack.commands.why:command", "Explain why a job waits, or a node's state.", _JOBS),
    "wait": Lazy("racksack.commands.wait:command", "Wait for jobs to end; exit with their outcome.", _JOBS),
    "fetch": Lazy("racksack.commands.fetch:command", "Fetch the results of finished jobs into ./results/.", _JOBS),
    "cancel": Lazy("racksack.commands.cancel:command", "Cancel jobs.", _JOBS),
    "signal": Lazy("racksack.commands.act:signal", "Send a signal to the programs of running jobs.", _JOBS),
    "hold": Lazy("racksack.commands.act:hold", "Hold waiting jobs.", _JOBS),
    "release": Lazy("racksack.commands.act:release", "Release held jobs.", _JOBS),
    "retry": Lazy("racksack.commands.retry:command", "Run finished jobs again.", _JOBS),
    "checkpoints": Lazy("racksack.commands.checkpoints:command", "Show what jobs saved to go on from.", _JOBS),
    "checkpoint": Lazy("racksack.commands.checkpoints:mark", "In a job: what it saved is complete now.", _JOBS),
    "shell": Lazy("racksack.commands.shell:command", "Work on a node: a job with a terminal.", _JOBS),
    "map": Lazy("racksack.commands.map:command", "Run one command for many files, as GNU parallel does.", _JOBS),
    "attach": Lazy("racksack.commands.attach:command", "Attach to a running job's terminal.", _JOBS),
    "usage": Lazy("racksack.commands.usage:command", "Show what jobs used of what they asked for.", _JOBS),
    "sweep": Lazy("racksack.commands.sweep:group", "Run one function over many combinations; rank them.", _JOBS),
    "data": Lazy("racksack.commands.data:group", "Data sets: sent once, shared by jobs, read-only.", _JOBS),
    "every": Lazy("racksack.commands.every:command", "Submit a job again and again; list and pause such jobs.", _JOBS),
    "history": Lazy("racksack.commands.history:command", "List finished jobs.", _JOBS),
    "nodes": Lazy("racksack.commands.nodes:command", "Show the nodes.", _NODES),
    "power": Lazy("racksack.commands.power:group", "Power nodes on and off, or hold their power state.", _NODES),
    "scale": Lazy("racksack.commands.scale:command", "Keep N servers powered on (or `auto`).", _NODES),
    "energy": Lazy("racksack.commands.energy:command", "Show the energy that nodes and jobs used.", _NODES),
    "drain": Lazy("racksack.commands.drain:drain", "Drain nodes: running jobs finish, none start.", _NODES),
    "resume": Lazy("racksack.commands.drain:resume", "Return drained nodes to service.", _NODES),
    "node": Lazy("racksack.commands.node:group", "Add, check and list nodes (on the controller's machine).", _NODES),
    "controller": Lazy("racksack.commands.controller:group", "Run, query, stop or reload the controller.", _OPERATING),
    "reload": Lazy("racksack.commands.controller:reload", "Reload the controller's configuration.", _OPERATING),
    "doctor": Lazy("racksack.commands.doctor:command", "Diagnose problems between you and your jobs.", _OPERATING),
    "backup": Lazy(
        "racksack_controller.commands.backup:backup",
        "Back up a controller (on its machine).",
        _OPERATING,
    ),
    "restore": Lazy("racksack_controller.commands.backup:restore", "Restore a backup (on its machine).", _OPERATING),
    "fsck": Lazy("racksack_controller.commands.fsck:command", "Check and repair a controller's spool.", _OPERATING),
    "config": Lazy("racksack.commands.config:group", "Check a controller's configuration.", _OPERATING),
    "simulate": Lazy(
        "racksack_controller.simulate.main:main",
        "Replay a workload under other policies or on another rack.",
        _OPERATING,
    ),
    "web": Lazy("racksack.commands.web:group", "Print the status page's address; sign in and out.", _OPERATING),
    "schema": Lazy("racksack.commands.schema:command", "Print the JSON Schema of job files.", _OPERATING),
    "completion": Lazy("racksack.commands.completion:command", "Print shell completion.", _OPERATING),
}
ALIASES = {
    "fetch-results": "fetch",
    "log": "logs",
    "ps": "status",
    "queue": "status",
    "kill": "cancel",
    "stop": "cancel",
    "undrain": "resume",
    "requeue": "retry",
    "restart": "retry",
    "seff": "usage",
    "bkill": "cancel",
    "qdel": "cancel",
    "qstat": "status",
    "bjobs": "status",
    "cron": "every",
    "recurring": "every",
}


@click.group(
    "racksack", cls=LazyGroup, table=COMMANDS, aliases=ALIASES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--controller", metavar="WHERE", help="Which controller: user@host[:/spool] or /path/to/spool.")
@version_option("-V", "-v", "--version")
def racksack_group(controller: str | None) -> None:
    """Run projects on your own servers and fetch the results.

    Exit codes: 0 done, 1 error, 2 usage, 3 not found, 4 controller not reachable (nothing was changed), 5 refused, 6
    never runnable, 7 transfer incomplete, 8 partial; 10 job failed, 11 out of memory, 12 time-out, 13 cancelled, 14 not
    the program's fault; 124 waited long enough, 130 interrupted.
    """


def racksack() -> int:
    """`racksack`."""
    return run(racksack_group, "racksack")


def submit() -> int:
    """`submit` = `racksack submit`."""
    return run(load(COMMANDS["submit"].home), "submit")


def fetch_results() -> int:
    """`fetch-results` = `racksack fetch`."""
    return run(load(COMMANDS["fetch"].home), "fetch-results")
