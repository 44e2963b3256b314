"""`racksack web`: the way to the status page from here; `login`, `logout` and `sessions` of browsers."""

from __future__ import annotations

import shlex
import socket
from urllib.parse import urlsplit

import click

from racksack.cli import Lazy as Command
from racksack.cli import LazyGroup, controller_option, json_option, open_client
from racksack.client import Client
from racksack.errors import RefusedError
from racksack.text import clean, iso_local, print_json, say, table

_HERE = "racksack.commands.web"
_SETTINGS = {"help_option_names": ["-h", "--help"]}
USUAL_PORT = 8470
PORTS_TRIED = 50


@click.command("login", context_settings=_SETTINGS)
@json_option
@controller_option
def login(as_json: bool, controller: str | None) -> int:
    """Print a link that signs a browser in as you. It works once, within ten minutes."""
    with open_client(controller) as client:
        address = _listening(client)
        link = client.post("web/login")
        host = client.target.host
    path = str(link["path"])
    if host is None:
        return _print(f"http://{address}{path}", None, as_json)
    port = _free_port(int(address.rpartition(":")[2]))
    return _print(f"http://localhost:{port}{path}", f"ssh -N -L {port}:{address} {shlex.quote(host)}", as_json)


@click.command("logout", context_settings=_SETTINGS)
@json_option
@controller_option
def logout(as_json: bool, controller: str | None) -> int:
    """Sign all your browsers out."""
    with open_client(controller) as client:
        ended = int(client.post("web/logout", {"all": True})["ended"])
    if as_json:
        print_json({"ended": ended})
    else:
        click.echo(f"{ended} browser{'' if ended == 1 else 's'} signed out")
    return 0


@click.command("sessions", context_settings=_SETTINGS)
@json_option
@controller_option
def sessions(as_json: bool, controller: str | None) -> int:
    """List the browsers in which you are signed in."""
    with open_client(controller) as client:
        found = client.get(list[dict[str, object]], "web/sessions")
    if as_json:
        print_json(found)
        return 0
    if not found:
        say("you are not signed in anywhere; `racksack web login` gives a link")
        return 0
    columns = ("SIGNED IN", "LAST USED", "ENDS", "BROWSER")
    rows = [[*(iso_local(float(str(one[key]))) for key in _TIMES), str(one["browser"])] for one in found]
    click.echo(table(columns, rows))
    return 0


_TIMES = ("signed_in_at_s", "seen_at_s", "ends_at_s")


class WebGroup(LazyGroup):
    """A group that does something by itself."""

    def __init__(self, name: str, **settings: object) -> None:
        super().__init__(name, invoke_without_command=True, **settings)  # type: ignore[arg-type]


@click.group(
    "web",
    cls=WebGroup,
    table={
        "login": Command(f"{_HERE}:login", "Print a link that signs a browser in as you."),
        "logout": Command(f"{_HERE}:logout", "Sign all your browsers out."),
        "sessions": Command(f"{_HERE}:sessions", "List the browsers in which you are signed in."),
    },
    context_settings=_SETTINGS,
)
@json_option
@controller_option
@click.pass_context
def group(context: click.Context, as_json: bool, controller: str | None) -> int:
    """Print the address of the status page; for a remote controller also the ssh command that brings it here.

    The page shows you what the racksack command shows you. On this machine the address has a key in it, which signs
    your browser in and works once. From elsewhere the ssh command brings the controller's socket here, where it knows
    you by your login; anybody who can use this machine's ports is you as well, as long as that command runs. On a
    machine that you share with others use `racksack web login`.
    """
    if context.invoked_subcommand is not None:
        return 0
    with open_client(controller) as client:
        host = client.target.host
        if host is None:
            address = _listening(client)
            return _print(f"http://{address}{client.post('web/login')['path']}", None, as_json)
        client.controller()  # the way there works, before anybody is told to go it
        port = _free_port(USUAL_PORT)
        forward = shlex.quote(f"{port}:{client.target.socket}")
        return _print(f"http://localhost:{port}/", f"ssh -N -L {forward} {shlex.quote(host)}", as_json)


def _print(url: str, tunnel: str | None, as_json: bool) -> int:
    if as_json:
        print_json({"url": url, "tunnel": tunnel})
        return 0
    if tunnel is not None:
        say(f"first run in another terminal: {clean(tunnel)}")
    click.echo(clean(url))
    return 0


def _listening(client: Client) -> str:
    """`host:port` of the page's TCP address. Raises RefusedError where there is none."""
    address = client.controller().get("web")
    if not isinstance(address, str) or not address:
        raise RefusedError("this controller serves no status page; set `web: {listen: ...}` in its configuration")
    return urlsplit(address).netloc or address.rstrip("/")


def _free_port(wanted: int) -> int:
    """The port itself, or the next one that nothing listens on here: ssh would refuse to forward a taken one."""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return wanted
