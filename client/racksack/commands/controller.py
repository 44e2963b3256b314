"""`racksack controller`: with options it runs a controller here; `status`, `stop` and `reload` talk to a running
one.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from racksack.cli import Lazy, LazyGroup, controller_option, json_option, open_client
from racksack.text import clean, iso_local, print_json, say
from racksack.transport.connection import is_listening
from racksack_jobspecs.states import ExitCode

_HERE = "racksack.commands.controller"


class ControllerGroup(LazyGroup):
    """A group whose options, when no sub-command follows, are the controller program's own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hand everything to the controller program unless it starts with one of our sub-commands or asks for help."""
        if args and args[0] not in (*self.list_commands(ctx), "-h", "--help"):
            _become_controller(args)
        return super().parse_args(ctx, args)


def _become_controller(args: list[str]) -> None:
    """Replace this process: signals and the service manager then deal with the controller itself."""
    from racksack.transport.embedded import check_installed

    check_installed("this machine cannot run a controller")
    os.execv(sys.executable, [sys.executable, "-P", "-m", "racksack_controller", *args])  # noqa: S606 - an argument vector, no shell


@click.command("status", context_settings={"help_option_names": ["-h", "--help"]})
@json_option
@controller_option
def status(as_json: bool, controller: str | None) -> int:
    """Say whether the controller runs, and how it is."""
    with open_client(controller) as client:
        if client.target.home is not None and not is_listening(client.target):
            say(f"no embedded controller is running in {client.target.home}; the next command that needs one starts it")
            return ExitCode.UNREACHABLE
        facts = client.controller()
        if as_json:
            print_json({"target": str(client.target), **facts})
            return ExitCode.OK
        click.echo(f"controller at {clean(client.target)}")
        for key, value in facts.items():
            if value not in (None, "") and key != "now_s":
                told = iso_local(value) if key.endswith("_at_s") and isinstance(value, int | float) else value
                click.echo(f"  {clean(key.removesuffix('_at_s'))}: {clean(told)}")
        return ExitCode.OK


@click.command("stop", context_settings={"help_option_names": ["-h", "--help"]})
@json_option
@controller_option
def stop(as_json: bool, controller: str | None) -> int:
    """Stop the controller. Running jobs go on, and a later start finds them again."""
    return _tell("stop", "is stopping; running jobs go on", as_json, controller)


@click.command("reload", context_settings={"help_option_names": ["-h", "--help"]})
@json_option
@controller_option
def reload(as_json: bool, controller: str | None) -> int:
    """Have the controller read its nodes again."""
    return _tell("reload", "has read its configuration again", as_json, controller)


def _tell(verb: str, done: str, as_json: bool, controller: str | None) -> int:
    with open_client(controller) as client:
        if client.target.home is not None and not is_listening(client.target):
            say(f"no embedded controller is running in {client.target.home}")
            return ExitCode.OK
        answer: Any = client.post(f"controller/{verb}")
        if as_json:
            print_json({"controller": str(client.target), verb: True, "answer": answer})
        else:
            click.echo(f"the controller at {clean(client.target)} {done}")
    return ExitCode.OK


group = ControllerGroup(
    "controller",
    table={
        "status": Lazy(f"{_HERE}:status", "Say whether the controller runs, and how it is."),
        "stop": Lazy(f"{_HERE}:stop", "Stop it; running jobs go on."),
        "reload": Lazy(f"{_HERE}:reload", "Have it read its nodes again."),
    },
    help="Ask, stop or reload the controller; with options, run one here: racksack controller --config racksack.yaml.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
