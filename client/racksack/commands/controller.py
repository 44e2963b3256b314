"""`racksack controller`: with options it runs a controller here; `status`, `stop` and `reload` talk to a running
one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from racksack.cli import Lazy, LazyGroup, controller_option, json_option, open_client
from racksack.errors import RefusedError
from racksack.text import clean, iso_local, print_json, say
from racksack.transport.connection import is_listening
from racksack_jobspecs.states import ExitCode

if TYPE_CHECKING:
    from racksack.client import Client

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
    """Show whether the controller is running, and its health."""
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
    with open_client(controller) as client:
        if not _is_running(client):
            return ExitCode.OK
        answer: Any = client.post("controller/stop")
        if as_json:
            print_json({"controller": str(client.target), "stop": True, "answer": answer})
        else:
            click.echo(f"the controller {_place(client)} is stopping; running jobs go on")
    return ExitCode.OK


@click.command("reload", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--force", is_flag=True, help="Also remove nodes with running jobs; these start again elsewhere.")
@json_option
@controller_option
def reload(force: bool, as_json: bool, controller: str | None) -> int:
    """Have the controller read its configuration again, and say what changed."""
    with open_client(controller) as client:
        if not _is_running(client):
            return ExitCode.OK
        try:
            answer = client.post("controller/reload", {"lose_jobs": force})
        except RefusedError as error:
            if as_json or not sys.stdin.isatty():
                raise
            say(clean(error))
            if not click.confirm("Reload anyway and lose the progress of these jobs?", err=True):
                return error.exit_code
            answer = client.post("controller/reload", {"lose_jobs": True})
    if as_json:
        print_json({"controller": str(client.target), "reload": True, "answer": answer})
    else:
        click.echo(f"configuration reloaded: {_changes(answer if isinstance(answer, dict) else {})}")
    return ExitCode.OK


def _is_running(client: Client) -> bool:
    """Whether there is a controller to talk to; an embedded one is not started for this."""
    if client.target.home is None or is_listening(client.target):
        return True
    say(f"no embedded controller is running in {client.target.home}")
    return False


def _place(client: Client) -> str:
    return "on this machine" if client.target.home is not None else f"at {clean(client.target)}"


def _changes(answer: Mapping[str, Any]) -> str:
    """`+r3, -r2, r1 changed; restart the controller for web`."""
    words = [f"+{name}" for name in answer.get("added", ())] + [f"-{name}" for name in answer.get("removed", ())]
    words += [f"{name} changed" for name in (*answer.get("changed", ()), *answer.get("settings", ()))]
    told = ", ".join(words) or "no changes"
    waiting = ", ".join(answer.get("restart_for", ()))
    return clean(told + (f"; restart the controller to apply {waiting} (jobs go on)" if waiting else ""))


group = ControllerGroup(
    "controller",
    table={
        "status": Lazy(f"{_HERE}:status", "Show whether the controller is running, and its health."),
        "stop": Lazy(f"{_HERE}:stop", "Stop it; running jobs go on."),
        "reload": Lazy(f"{_HERE}:reload", "Reload its configuration."),
    },
    help="Query, stop or reload the controller, or run one here: racksack controller --config racksack.yaml.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
