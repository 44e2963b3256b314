"""`racksack scale N|auto`."""

from __future__ import annotations

import click

from racksack.cli import controller_option, json_option, open_client
from racksack.durations import duration_option
from racksack.text import clean, print_json, say


@click.command("scale", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("servers", metavar="N|auto")
@duration_option("--for", "for_s", help="For this long. [until the next `racksack scale`]")
@json_option
@controller_option
def command(servers: str, for_s: float | None, as_json: bool, controller: str | None) -> int:
    """Have N servers on and keep them on; `auto`: as many as the queue needs. For operators."""
    word = servers.lower()
    if word != "auto" and not (word.isascii() and word.isdecimal() and len(word) <= 4):
        raise click.UsageError(f"{clean(servers)} is neither a number of servers nor auto")
    count = None if word == "auto" else int(word)
    with open_client(controller) as client:
        answer = client.post("scale", {"nodes": count, "for_s": for_s})
    if as_json:
        print_json(answer)
        return 0
    names = ", ".join(clean(name) for name in answer["nodes"])
    if count is None:
        click.echo("servers are powered on as the queue needs them")
    else:
        click.echo(f"{len(answer['nodes'])} of {count} servers: {names or 'none'}")
        if len(answer["nodes"]) < count:
            say("no more can be powered on: the others are drained, set aside, or cannot be switched on")
    return 0
