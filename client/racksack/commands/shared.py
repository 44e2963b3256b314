"""What the commands that submit have in common: arguments after `--`, and options that mean the same in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from racksack.cli import F, complete
from racksack.familiar import option_hint


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
            hint = option_hint(error.option_name)
            known = f"; {hint}" if hint else known
            message = f"there is no option {error.option_name}{known} (options for your program go after --)"
            raise click.UsageError(message, ctx) from None


def _split(args: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    words = list(args)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], tuple(words[at + 1 :])


def many(*names: str, **settings: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's own
    """An option that may be repeated."""
    return click.option(*names, multiple=True, **settings)


def together(*options: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[[F], F]:
    """One decorator for several options, which the help shows in this order."""

    def add(function: F) -> F:
        for option in reversed(options):
            option(function)  # click notes it on the function, which stays the same
        return function

    return add


_NODES: dict[str, Any] = {"metavar": "NODE", "shell_complete": complete("node_names")}
NODE = many("-w", "--node", "--nodelist", "nodes", **_NODES, help="Only this node.")
EXCLUDE_NODE = many("-x", "--exclude-node", **_NODES, help="Not this node.")
AFTER = many(
    "-d",
    "--after",
    "--dependency",
    "after",
    metavar="ID",
    help="Start after this job is done; afterany:ID, 15[3].",
)
PRIORITY = click.option("--priority", metavar="N", help="-1000 to 1000, higher goes first.")
ENV_FILE = click.option("--env-file", metavar="FILE", help="NAME=VALUE lines.")
VRAM = click.option("--vram", metavar="SIZE", help="Minimum memory of each GPU.")
DISK = click.option("--disk", metavar="SIZE", help="Free disk space the node must have.")
PYTHON = click.option("--python", metavar="VERSION", help="Python version of the venv.")
REQUIREMENTS = click.option("--requirements", metavar="FILE", help="The requirements file, inside the project.")
NO_VENV = click.option("--no-venv", is_flag=True, help="Do not create a venv.")
NO_WAKE = click.option("--no-wake", is_flag=True, help="Do not power on a node for this.")
DATA = many("--data", metavar="DATA", help="NAME, NAME@v3, ./FOLDER or NAME=FOLDER; :PATH puts it into the project.")
EXCLUDE = many("--exclude", metavar="PATTERN", help="Do not send this (a .gitignore pattern).")
INCLUDE = many("--include", metavar="PATTERN", help="Send this even if a rule excludes it.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print only the result line.")
