"""`racksack data add|list|show|where|pin|unpin|verify|rm`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from racksack.cli import Lazy, LazyGroup, controller_option, json_option, open_client
from racksack.errors import RacksackError
from racksack.text import clean, print_json, say, short_local, table
from racksack_jobspecs.units import format_memory

_SETTINGS = {"help_option_names": ["-h", "--help"]}
_HOME = "racksack.commands.data"

group = LazyGroup(
    "data",
    table={
        "add": Lazy(f"{_HOME}:add", "Send a folder as the newest version of a data set."),
        "list": Lazy(f"{_HOME}:list_data", "List your data sets."),
        "show": Lazy(f"{_HOME}:show", "Show all versions of one."),
        "where": Lazy(f"{_HOME}:where", "Show which nodes have it."),
        "pin": Lazy(f"{_HOME}:pin", "Protect a version from `data rm`."),
        "unpin": Lazy(f"{_HOME}:unpin", "No longer protect it."),
        "verify": Lazy(f"{_HOME}:verify", "Verify the controller's copy against its digest."),
        "rm": Lazy(f"{_HOME}:remove", "Remove a version; its content goes once no job needs it."),
    },
    aliases={"ls": "list", "remove": "rm", "delete": "rm"},
    help="Data sets: sent once, shared by jobs, read-only.",
    context_settings=_SETTINGS,
)

_version = click.option("--version", metavar="N", type=click.IntRange(1), help="Which version. [the newest]")
_name = click.argument("name", metavar="NAME")


@click.command("add", context_settings=_SETTINGS)
@_name
@click.argument("path", metavar="FOLDER|FILE", type=click.Path(path_type=Path))
@json_option
@controller_option
def add(name: str, path: Path, as_json: bool, controller: str | None) -> int:
    """Send FOLDER or FILE as the newest version of NAME; files that the controller has are not sent again."""
    from racksack.progress import reading_bar, transfer_bar
    from racksack.submission import data as data_sets
    from racksack_jobspecs.data import parse

    try:
        use = parse(name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with open_client(controller) as client, ExitStack() as uploads:
        with reading_bar("reading", quiet=as_json) as on_read:
            [one] = data_sets.read([(use, path.expanduser())], on_read)
        with transfer_bar("sending", one.selection.size_bytes, quiet=as_json) as on_sent:
            [brought] = data_sets.bring(client, [one], uploads, on_sent)
        found = client.post("data", {"name": use.name, "content": brought.content, "digest": brought.digest})
    if as_json:
        print_json(found)
    else:
        size = format_memory(found["bytes"])
        click.echo(f"{clean(found['name'])} v{found['version']}: {found['files']:,} files, {size}")
    return 0


@click.command("list", context_settings=_SETTINGS)
@click.option("-a", "--all", "everybody", is_flag=True, help="Those of all users (operators).")
@json_option
@controller_option
def list_data(everybody: bool, as_json: bool, controller: str | None) -> int:
    """List your data sets, newest versions first."""
    with open_client(controller) as client:
        found = client.get(list[dict[str, Any]], "data", {"all": 1 if everybody else None})
    return _shown(found, as_json)


@click.command("show", context_settings=_SETTINGS)
@_name
@json_option
@controller_option
def show(name: str, as_json: bool, controller: str | None) -> int:
    """Show all versions of a data set."""
    with open_client(controller) as client:
        found = client.get(list[dict[str, Any]], f"data/{_quoted(name)}")
    return _shown(found, as_json)


def _shown(found: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        print_json(found)
    elif not found:
        click.echo("No data sets. Add one: `racksack data add NAME FOLDER`, or submit a job with --data ./FOLDER")
    else:
        click.echo(table(("NAME", "VERSION", "SIZE", "FILES", "ADDED", "LAST USED", ""), [_row(one) for one in found]))
    return 0


def _row(one: Mapping[str, Any]) -> list[str]:
    if "path" in one:
        where = ", ".join(one["nodes"]) or "all nodes"
        return [clean(one["name"]), "-", "-", "-", "-", "-", f"{clean(one['path'])} on {clean(where)}"]
    return [
        clean(one["name"]),
        f"v{one['version']}",
        format_memory(one["bytes"]),
        f"{one['files']:,}",
        short_local(one["added_at_s"]),
        short_local(one["taken_at_s"]),
        "pinned" if one["pinned"] else "",
    ]


@click.command("where", context_settings=_SETTINGS)
@_name
@_version
@json_option
@controller_option
def where(name: str, version: int | None, as_json: bool, controller: str | None) -> int:
    """Show which nodes have a data set already."""
    with open_client(controller) as client:
        found = client.get(dict[str, Any], f"data/{_quoted(name)}/where", {"version": version})
    if as_json:
        print_json(found)
    else:
        nodes = ", ".join(map(clean, found["nodes"])) or "no node"
        click.echo(f"{clean(name)} v{found['version']}: on {nodes}")
        if found["unknown"]:
            say(f"not known of {', '.join(map(clean, found['unknown']))}: not connected")
    return 0


@click.command("pin", context_settings=_SETTINGS)
@_name
@_version
@controller_option
def pin(name: str, version: int | None, controller: str | None) -> int:
    """Protect a version: `data rm` refuses it."""
    found = _act(name, "pin", version, controller)
    click.echo(f"{clean(name)} v{found['version']} is pinned")
    return 0


@click.command("unpin", context_settings=_SETTINGS)
@_name
@_version
@controller_option
def unpin(name: str, version: int | None, controller: str | None) -> int:
    """Let a version be removed again."""
    found = _act(name, "unpin", version, controller)
    click.echo(f"{clean(name)} v{found['version']} is no longer pinned")
    return 0


@click.command("verify", context_settings=_SETTINGS)
@_name
@_version
@controller_option
def verify(name: str, version: int | None, controller: str | None) -> int:
    """Read the controller's copy again and compare it with its digest; exit code 1 when it is damaged."""
    found = _act(name, "verify", version, controller)
    if not found["intact"]:
        raise RacksackError(f"{clean(name)} v{found['version']} is damaged on the controller; add it again")
    click.echo(f"{clean(name)} v{found['version']} is intact")
    return 0


@click.command("rm", context_settings=_SETTINGS)
@_name
@_version
@click.option("-a", "--all", "everything", is_flag=True, help="All versions.")
@controller_option
def remove(name: str, version: int | None, everything: bool, controller: str | None) -> int:
    """Remove the newest version, another one, or all. Waiting and running jobs keep what they need."""
    gone = _act(name, "rm", version, controller, all=1 if everything else None)
    versions = ", ".join(f"v{one['version']}" for one in gone)
    click.echo(f"removed {clean(name)} {versions}")
    return 0


def _act(name: str, verb: str, version: int | None, controller: str | None, **query: object) -> Any:  # noqa: ANN401
    import msgspec

    with open_client(controller) as client:
        answer = client.ask("POST", f"data/{_quoted(name)}/{verb}", {"version": version, **query}, body=b"{}")
    return msgspec.json.decode(answer.body)


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
