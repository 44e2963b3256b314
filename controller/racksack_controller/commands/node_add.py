"""`racksack node add NAME USER@HOST`: show the host's key, and add the node with that key to racksack.yaml."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click
import yaml

from racksack_controller.config.config import Config, ConfigError, load_config, parse_config
from racksack_controller.main import DEFAULT_CONFIG
from racksack_controller.nodes import host_keys
from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.settings import SshSettings
from racksack_jobspecs.states import ExitCode


class NotAddedError(Exception):
    """Why the node was not added; the sentence is for the user."""


@click.command("add", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.argument("address", metavar="USER@HOST[:PORT]")
@click.option("--config", "path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True)
@click.option("--identity", type=click.Path(path_type=Path), help="Private key of the controller for this node.")
@click.option("--jump", help="Node through which it is reached.")
@click.option("-y", "--yes", is_flag=True, help="Take the key without asking: only on a network you trust.")
def command(name: str, address: str, path: Path, identity: Path | None, jump: str | None, yes: bool) -> int:
    """Fetch a server's SSH key, show its fingerprint, and store both server and key in the configuration."""
    try:
        text = path.read_text() if path.exists() else "nodes:\n"
        settings = _settings(name, address, identity, jump, load_config(path) if path.exists() else None)
        key = asyncio.run(host_keys.fetch(settings))
        click.echo(f"{name} ({settings.address}) shows the key {key.fingerprint}")
        click.echo("Compare it with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints on its console.")
        if not yes and not click.confirm("Is it the same, and shall the node be added?", default=False):
            click.echo("nothing was changed")
            return ExitCode.REFUSED
        _write(path, with_node(text, name, _block(settings, key.line, jump)))
    except (NotAddedError, NodeError, ConfigError, OSError) as error:
        click.echo(f"{name} was not added: {error}", err=True)
        return ExitCode.ERROR
    click.echo(f"added to {path}; `racksack node check {name}` tries it, `racksack controller reload` puts it to use")
    return ExitCode.OK


def _settings(name: str, address: str, identity: Path | None, jump: str | None, config: Config | None) -> SshSettings:
    user, at, rest = address.rpartition("@")
    host, colon, port = rest.rpartition(":")
    if not colon:
        host, port = rest, "22"
    if not at or not user or not host or not port.isdecimal():
        raise NotAddedError(f"{address!r} is not an address; write user@host or user@host:port")
    through = None
    if config is not None and name in config.nodes:
        raise NotAddedError(f"{config.path} has a node of this name already")
    if jump is not None:
        found = config.nodes.get(jump) if config is not None else None
        if found is None or not isinstance(found.reach, SshSettings):
            raise NotAddedError(f"--jump {jump}: there is no ssh node of this name in the configuration")
        through = found.reach
    return SshSettings(host=host, user=user, port=int(port), identity=identity, jump=through)


def _block(settings: SshSettings, host_key: str, jump: str | None) -> dict[str, object]:
    ssh: dict[str, object] = {"host": settings.host, "user": settings.user}
    if settings.port != 22:
        ssh["port"] = settings.port
    if settings.identity is not None:
        ssh["identity"] = str(settings.identity)
    if jump is not None:
        ssh["jump"] = jump
    ssh["host_key"] = " ".join(host_key.split()[:2])
    return {"ssh": ssh}


def with_node(text: str, name: str, block: dict[str, object]) -> str:
    """A configuration's text with one more node, everything else left as it was written.

    Raises NotAddedError when `nodes:` is not written as an indented block, and ConfigError when the result is bad.
    """
    line = f"{name}: {yaml.safe_dump(block, default_flow_style=True, width=10_000).strip()}"
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    nodes = next((pair for pair in root.value if pair[0].value == "nodes"), None) if root is not None else None
    if nodes is None:
        lines += ["nodes:", f"  {line}"]
    elif isinstance(nodes[1], yaml.MappingNode) and not nodes[1].flow_style and nodes[1].value:
        last = nodes[1].value[-1][1].end_mark
        at = last.line + 1 if last.column else last.line
        lines.insert(at, " " * nodes[1].value[0][0].start_mark.column + line)
    elif isinstance(nodes[1], yaml.ScalarNode) and not nodes[1].value:
        lines.insert(nodes[0].start_mark.line + 1, f"  {line}")
    else:
        raise NotAddedError(f"`nodes:` is written in braces; add this line to it by hand:\n  {line}")
    result = "\n".join(lines) + "\n"
    parse_config(result)
    return result


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    if path.exists():
        info = path.stat()
        beside.chmod(info.st_mode & 0o7777)
        if os.geteuid() == 0:
            os.chown(beside, info.st_uid, info.st_gid)
    beside.rename(path)
