"""`racksack node add NAME USER@HOST`, and `racksack node trust NAME` for a server whose SSH key changed.

Both show the key that the server presents, ask for a comparison, and store the key in racksack.yaml.
"""

from __future__ import annotations

import asyncio
import grp
import os
from pathlib import Path

import click
import yaml

from racksack_controller.config.config import DEFAULT_CONFIG, Config, ConfigError
from racksack_controller.config.edit import EditError, parsed, with_host_key, with_node
from racksack_controller.nodes import host_keys
from racksack_controller.nodes.errors import NodeError
from racksack_controller.nodes.settings import SshSettings
from racksack_jobspecs.states import ExitCode

SUBMITTERS = "racksack-users"  # the group of systemd/racksack.sysusers
_HELP = {"help_option_names": ["-h", "--help"]}
_NEW_FILE = """\
# All keys: docs/configuration.md. After a change: racksack config check && racksack reload
spool: /var/lib/racksack
{group}web: {{listen: "127.0.0.1:8470"}}
nodes:
"""

config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True
)
yes_option = click.option(
    "-y", "--yes", is_flag=True, help="Accept the key without comparing it; only on a network you trust."
)


class NotAddedError(Exception):
    """Why the configuration was not changed; the sentence is for the user."""


@click.command("add", context_settings=_HELP)
@click.argument("name")
@click.argument("address", metavar="USER@HOST[:PORT]")
@config_option
@click.option("--identity", type=click.Path(path_type=Path), help="SSH key to log in with. [id_ed25519 beside FILE]")
@click.option("--jump", help="Node through which it is reached.")
@click.option("--replace-key", is_flag=True, help="NAME exists and has a new host key: as `racksack node trust`.")
@yes_option
def command(
    name: str, address: str, path: Path, identity: Path | None, jump: str | None, replace_key: bool, yes: bool
) -> int:
    """Add a server: fetch its SSH key, show the fingerprint, and store both in the configuration."""
    try:
        text = path.read_text() if path.exists() else new_file()
        config = _parsed(text, path)
        if config is not None and name in config.nodes:
            if replace_key:
                return _trust(name, text, config, path, yes)
            raise NotAddedError(f"{path} already has this node; `racksack node trust {name}` stores a new host key")
        settings = _settings(address, identity or _usual_identity(path), jump, config)
        key = asyncio.run(host_keys.fetch(settings))
        _show(name, settings, key)
        if not yes and not click.confirm("Do they match? Add the node?", default=False):
            click.echo("nothing was changed")
            return ExitCode.REFUSED
        _write(path, with_node(text, name, _block(settings, key.line, jump)))
    except (NotAddedError, EditError, NodeError, ConfigError, OSError) as error:
        click.echo(f"{name} was not added: {error}", err=True)
        return ExitCode.ERROR
    click.echo(f"added to {path}; next: `racksack node check {name}`, then start the controller or `racksack reload`")
    return ExitCode.OK


@click.command("trust", context_settings=_HELP)
@click.argument("name")
@config_option
@yes_option
def trust(name: str, path: Path, yes: bool) -> int:
    """Store the SSH key that a node shows now, in place of the old one; for a server that was installed anew."""
    try:
        text = path.read_text()
        config = _parsed(text, path)
        if config is None or name not in config.nodes:
            known = ", ".join(sorted(config.nodes)) if config else "none"
            raise NotAddedError(f"{path} has no such node; it has: {known}")
        return _trust(name, text, config, path, yes)
    except (NotAddedError, EditError, NodeError, ConfigError, OSError) as error:
        click.echo(f"the key of {name} was not stored: {error}", err=True)
        return ExitCode.ERROR


def _trust(name: str, text: str, config: Config, path: Path, yes: bool) -> int:
    """Replace the key of a configured node. Raises as the commands."""
    settings = config.nodes[name].reach
    if not isinstance(settings, SshSettings):
        raise NotAddedError("it is this machine, which has no host key")
    key = asyncio.run(host_keys.fetch(settings))
    if settings.host_key == key.line:
        click.echo(f"{name} shows the key that is already stored, {key.fingerprint}")
        return ExitCode.OK
    _show(name, settings, key)
    if settings.host_key:
        click.echo(f"Stored until now: {host_keys.fingerprint(settings.host_key)}")
    if not yes and not click.confirm("Do they match? Trust this key from now on?", default=False):
        click.echo("nothing was changed")
        return ExitCode.REFUSED
    _write(path, with_host_key(text, name, key.line))
    click.echo(f"stored in {path}; `racksack reload` puts it to use")
    return ExitCode.OK


def _parsed(text: str, path: Path) -> Config | None:
    try:
        return parsed(text)
    except yaml.YAMLError as error:
        raise NotAddedError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ConfigError as error:
        raise ConfigError(path, error.problems) from None


def _show(name: str, settings: SshSettings, key: host_keys.HostKey) -> None:
    click.echo(f"{name} ({settings.address}) shows the {key.kind} key {key.fingerprint}")
    click.echo("Compare it with what this command prints on its own console:")
    click.echo(f"  ssh-keygen -lf /etc/ssh/ssh_host_{key.kind.lower()}_key.pub")


def new_file() -> str:
    """The text of a first configuration, without nodes; shared where the submitters' group is there."""
    try:
        grp.getgrnam(SUBMITTERS)
    except KeyError:
        return _NEW_FILE.format(group="")
    return _NEW_FILE.format(group=f"group: {SUBMITTERS}\n")


def _usual_identity(path: Path) -> Path | None:
    usual = path.absolute().parent / "id_ed25519"
    return usual if usual.exists() else None


def _settings(address: str, identity: Path | None, jump: str | None, config: Config | None) -> SshSettings:
    user, at, rest = address.rpartition("@")
    host, colon, port = rest.rpartition(":")
    if not colon:
        host, port = rest, "22"
    if not at or not user or not host or not port.isdecimal():
        raise NotAddedError(f"{address!r} is not an address; write user@host or user@host:port")
    through = None
    if jump is not None:
        found = config.nodes.get(jump) if config is not None else None
        if found is None or not isinstance(found.reach, SshSettings):
            raise NotAddedError(f"--jump {jump}: the configuration has no ssh node of this name")
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


def _write(path: Path, text: str) -> None:
    """Replace the file, with its owner and mode; a new one is its folder's group's to read, as /etc/racksack is."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    info = path.stat() if path.exists() else None
    beside.chmod(info.st_mode & 0o7777 if info else 0o640)
    if os.geteuid() == 0:
        folder = path.absolute().parent.stat()
        os.chown(beside, info.st_uid if info else 0, info.st_gid if info else folder.st_gid)
    beside.rename(path)
