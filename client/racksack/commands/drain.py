"""`racksack drain` and `racksack resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racksack.cli import controller_option, for_each, json_option, open_client
from racksack.text import clean, print_json

if TYPE_CHECKING:
    from racksack.client import Client


@click.command("drain", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", required=True, help="Why; everybody sees it.")
@click.option("--now", is_flag=True, help="Queue its jobs again instead of waiting for them.")
@json_option
@controller_option
def drain(nodes: tuple[str, ...], reason: str, now: bool, as_json: bool, controller: str | None) -> int:
    """Let a node finish its jobs and start no more, until it is resumed."""
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _drain(client, name, reason, now, as_json))


@click.command("resume", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("nodes", metavar="NODE...", nargs=-1, required=True)
@json_option
@controller_option
def resume(nodes: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Let a drained node, or one that was set aside, take jobs again."""
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _resume(client, name, as_json))


def _drain(client: Client, name: str, reason: str, now: bool, as_json: bool) -> None:
    client.post(f"nodes/{name}/drain", {"reason": reason, "now": now})
    node = client.node(name)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(node))
        return
    jobs = ", ".join(map(str, node.jobs))
    waits = f"; waits for {'jobs' if len(node.jobs) > 1 else 'job'} {jobs}" if jobs and not now else ""
    click.echo(f"{clean(name)} is {clean(node.state)}{waits}")


def _resume(client: Client, name: str, as_json: bool) -> None:
    client.post(f"nodes/{name}/resume")
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(client.node(name)))
    else:
        click.echo(f"{clean(name)} takes jobs again")
