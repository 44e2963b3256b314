"""`racksack why`: the reason behind a wait, a placement or a node's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from racksack.cli import complete, controller_option, for_each, json_option, open_client
from racksack.text import clean_lines, print_json

if TYPE_CHECKING:
    from racksack.client import Client


@click.command("why", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="JOB|NODE...", shell_complete=complete("job_ids"), nargs=-1, required=True)
@json_option
@controller_option
def command(names: tuple[str, ...], as_json: bool, controller: str | None) -> int:
    """Explain why a job waits or ran where it did, or why a node is in its state."""
    with open_client(controller) as client:
        return for_each(names, lambda name: _tell(client, name, as_json))


def _tell(client: Client, name: str, as_json: bool) -> None:
    """A node's name wins over a job's, since a job always has an id too."""
    import msgspec

    nodes = {node.name for node in client.nodes()} if not name[:1].isdigit() else set()
    for why in [client.node_why(name)] if name in nodes else map(client.why, client.resolve([name])):
        if as_json:
            print_json(msgspec.to_builtins(why))
        else:
            click.echo(clean_lines(why.sentence))
