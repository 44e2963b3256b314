"""`racksack web`: the address of the status page, and how to reach it from here."""

from __future__ import annotations

import click

from racksack.cli import controller_option, json_option, open_client
from racksack.errors import RefusedError
from racksack.text import clean, print_json, say


@click.command("web", context_settings={"help_option_names": ["-h", "--help"]})
@json_option
@controller_option
def command(as_json: bool, controller: str | None) -> int:
    """Print the address of the status page; for a remote controller also the ssh command that brings it here."""
    with open_client(controller) as client:
        listen = client.status().controller.get("web")
        host = client.target.host
    if not isinstance(listen, str) or not listen:
        raise RefusedError("this controller serves no status page; set `web: {listen: ...}` in its configuration")
    address = listen.removeprefix("http://").rstrip("/")
    port = address.rpartition(":")[2]
    tunnel = f"ssh -N -L {port}:{address} {host}" if host is not None else None
    url = f"http://localhost:{port}/" if tunnel else f"http://{address}/"
    if as_json:
        print_json({"url": url, "tunnel": tunnel})
        return 0
    if tunnel is not None:
        say(f"first run in another terminal: {clean(tunnel)}")
    click.echo(clean(url))
    return 0
