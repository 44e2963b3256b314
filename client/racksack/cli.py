"""What all commands share: sub-commands that are imported when they are used, common options, and how a command ends.

A command ends with one sentence on stderr and a documented exit code, never with a traceback; RACKSACK_DEBUG=1 shows
the traceback of an error that nobody foresaw.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from racksack.errors import PartialError, RacksackError
from racksack.text import clean, clean_lines, say
from racksack_jobspecs.states import ExitCode

if TYPE_CHECKING:
    from racksack.client import Client

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True)
class Lazy:
    """A sub-command: where it is, and its line in the help of the group."""

    home: str  # module:attribute
    summary: str
    section: str = "Commands"


class LazyGroup(click.Group):
    """A group whose commands are imported when they run. `aliases` are other spellings that people try."""

    def __init__(
        self,
        name: str,
        *,
        table: Mapping[str, Lazy],
        aliases: Mapping[str, str] | None = None,
        **settings: Any,  # noqa: ANN401 - click's own
    ) -> None:
        super().__init__(name, **settings)
        self._table = table
        self._aliases = aliases or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`help` and `help COMMAND` are `--help` and `COMMAND --help`; `version` is `--version`."""
        if args[:1] == ["help"] and "help" not in self._table:
            args = [*args[1:], "--help"]
        elif args == ["version"] and any("--version" in parameter.opts for parameter in self.params):
            args = ["--version"]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        lazy = self._table.get(self._aliases.get(cmd_name, cmd_name))
        return load(lazy.home) if lazy is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the closest name in the error."""
        name = args[0]
        if name not in self._table and name not in self._aliases and not name.startswith("-"):
            import difflib

            from racksack.familiar import command_hint

            if familiar := command_hint(name):
                raise click.UsageError(f"there is no command {clean(name)}; write {ctx.command_path} {familiar}", ctx)
            close = difflib.get_close_matches(name, list(self._table), n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; see `{ctx.command_path} --help`"
            raise click.UsageError(f"there is no command {clean(name)}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands by section, without importing any of them."""
        for section in dict.fromkeys(lazy.section for lazy in self._table.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, lazy.summary) for name, lazy in self._table.items() if lazy.section == section]
                )


def load(home: str) -> click.Command:
    """The command at `module:attribute`. Commands of the controller need its extra."""
    module, _, attribute = home.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if not module.startswith("racksack_controller") or (error.name or "").startswith("racksack."):
            raise
        from racksack_jobspecs.origin import install_hint

        raise RacksackError(
            f"this command is part of the controller, and {error.name} is not installed here; {install_hint()}"
        ) from error
    if not isinstance(found, click.Command):
        raise TypeError(f"{home} is not a command")
    return found


def controller_option(function: F) -> F:
    """`--controller`."""
    return click.option(
        "--controller",
        metavar="WHERE",
        help="user@host[:/spool] or /path/to/spool; default: RACKSACK_CONTROLLER, client.yaml, this machine.",
    )(function)


def version_option(*names: str) -> Callable[[F], F]:
    """`--version` and its other spellings: print the version and end."""
    return click.option(
        *names, is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
    )


def _print_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"racksack {version('racksack')}")
    context.exit()


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def watch_option(function: F) -> F:
    """`-w`, `--watch [SECONDS]`."""
    return click.option(
        "-w",
        "--watch",
        metavar="[SECONDS]",
        is_flag=False,
        flag_value=2.0,
        type=click.FloatRange(0.1, 86400.0),
        help="Refresh every two seconds, or every SECONDS.",
    )(function)


def complete(name: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """A completion of `racksack.completion`, which is imported when a shell asks."""

    def ask(context: click.Context, parameter: click.Parameter, prefix: str) -> Any:  # noqa: ANN401 - click's own
        return getattr(importlib.import_module("racksack.completion"), name)(context, parameter, prefix)

    return ask


def option_s(option: str, text: str | None) -> float | None:
    """The seconds of a duration option, None when it was not given. Raises click's UsageError naming the option."""
    from racksack_jobspecs.units import parse_duration

    try:
        return parse_duration(text) if text is not None else None
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def open_client(controller: str | None) -> Client:
    """The controller that this command names, or the group before it, or the configuration."""
    from racksack.client import Client

    return Client(named_controller(controller))


def named_controller(controller: str | None) -> str | None:
    """What `--controller` says, given to the command or to the group before it."""
    context = click.get_current_context(silent=True)
    of_group: str | None = context.find_root().params.get("controller") if context is not None else None
    return controller or of_group


def run(command: click.Command, name: str, argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    if any(name.endswith("_COMPLETE") for name in os.environ):
        from racksack.completion import register

        register()
    try:
        code = command.main(args=list(argv) if argv is not None else None, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except click.ClickException as error:
        error.show()
        return int(error.exit_code)
    except RacksackError as error:
        return _ended(clean_lines(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _ended("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has had enough. Python would complain when it flushes stdout at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK
    except OSError as error:
        where = f"{clean(error.filename)}: " if error.filename else ""
        return _ended(f"{where}{error.strerror or error}", ExitCode.ERROR)
    except Exception as error:
        if os.environ.get("RACKSACK_DEBUG"):
            raise
        said = clean(f"{type(error).__name__}: {error}")
        return _ended(
            f"internal error in racksack: {said}; please report it; RACKSACK_DEBUG=1 prints the traceback",
            ExitCode.ERROR,
        )


def _ended(sentence: str, code: ExitCode) -> int:
    say(sentence)
    return int(code)


def for_each(items: Sequence[T], action: Callable[[T], None]) -> int:
    """Do something for each of several jobs or nodes, telling of each failure, and return the exit code.

    One failure alone keeps its own code; some of several are PARTIAL.
    """
    failures: list[RacksackError] = []
    for item in items:
        try:
            action(item)
        except RacksackError as error:
            if error.exit_code == ExitCode.UNREACHABLE:
                raise
            say(clean_lines(error))
            failures.append(error)
    if not failures:
        return ExitCode.OK
    codes = {error.exit_code for error in failures}
    return codes.pop() if len(failures) == len(items) and len(codes) == 1 else PartialError.exit_code
