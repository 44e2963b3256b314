"""`racksack drain` and `racksack resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, for_each, json_option, open_client, option_s
from racksack.text import clean, print_json, short_local

if TYPE_CHECKING:
    from racksack.client import Client


@click.command("drain", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("nodes", metavar="NODE...", shell_complete=complete("node_names"), nargs=-1, required=True)
@click.option("--reason", metavar="TEXT", help="The reason, shown to everyone.")
@click.option("--deadline", metavar="TIME", help="Requeue jobs that still run after this time: 2h, ...")
@click.option("--now", is_flag=True, help="Requeue its jobs now instead of waiting for them.")
@click.option("--then-off", is_flag=True, help="Power it off once it is empty, if its power can be switched.")
@json_option
@controller_option
def drain(
    nodes: tuple[str, ...],
    reason: str | None,
    deadline: str | None,
    now: bool,
    then_off: bool,
    as_json: bool,
    controller: str | None,
) -> int:
    """Let a node finish its jobs and start no more, until it is resumed."""
    if now and deadline is not None:
        raise click.UsageError("use either --now or --deadline")
    wish: dict[str, object] = {"now": now, "deadline_s": option_s("--deadline", deadline), "then_off": then_off}
    if reason is not None:
        wish["reason"] = reason
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _drain(client, name, wish, as_json))


@click.command("resume", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("nodes", metavar="NODE...", shell_complete=complete("node_names"), nargs=-1, required=True)
@json_option
@controller_option
def resume(nodes: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Let a drained node, or one that was set aside, take jobs again."""
    with open_client(controller) as client:
        return for_each(nodes, lambda name: _resume(client, name, as_json))


def _drain(client: Client, name: str, wish: dict[str, object], as_json: bool) -> None:
    client.post(f"nodes/{name}/drain", wish)
    node = client.node(name)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(node))
        return
    jobs = ", ".join(map(str, node.jobs))
    waits = f"; waits for {'jobs' if len(node.jobs) > 1 else 'job'} {jobs}" if jobs and not wish["now"] else ""
    until = f", until {short_local(node.drain_deadline_at_s)} at most" if waits and node.drain_deadline_at_s else ""
    off = "; it will be powered off then" if node.then_off else ""
    click.echo(f"{clean(name)} is {clean(node.state)}{waits}{until}{off}")


def _resume(client: Client, name: str, as_json: bool) -> None:
    client.post(f"nodes/{name}/resume")
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(client.node(name)))
    else:
        click.echo(f"{clean(name)} accepts jobs again")
