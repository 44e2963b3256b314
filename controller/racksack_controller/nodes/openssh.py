"""The system's ssh for rsync, with the same keys, jumps and pinned host keys as the agent's connection.

A configuration file of our own says everything; the user's and the system's ssh configuration are not read. The first
transfer leaves a master connection open for a minute, so that the next ones need not log in again.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from racksack_controller.nodes.processes import plain_environment, run
from racksack_controller.nodes.settings import NodeSettings, SshSettings

log = logging.getLogger(__name__)

ALIAS = "node"
MASTER_IDLE_S = 60
_COMMON = """\
BatchMode yes
StrictHostKeyChecking yes
GlobalKnownHostsFile /dev/null
UpdateHostKeys no
PasswordAuthentication no
KbdInteractiveAuthentication no
ForwardAgent no
ForwardX11 no
ClearAllForwardings no
PermitLocalCommand no
RequestTTY no
LogLevel ERROR
ServerAliveCountMax 3
Compression no
"""


class OpenSsh:
    """A folder with the configuration, the pinned keys and the master's socket."""

    def __init__(self, settings: SshSettings) -> None:
        for _, hop in hops(settings):
            _check(hop)
        self._folder = Path(tempfile.mkdtemp(prefix="racksack-ssh-"))  # mode 0700, and a path short enough for a socket
        self._config = self._folder / "config"
        known = self._folder / "known_hosts"
        known.write_text(known_hosts(settings))
        self._config.write_text(configuration(settings, known, self._folder / "master"))

    @property
    def rsh(self) -> str:
        """What rsync's -e takes."""
        return f"ssh -F '{self._config}'"

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` on the host with a terminal."""
        return ["ssh", "-t", "-F", str(self._config), ALIAS, "--", shlex.join(argv)]

    async def forget_master(self) -> None:
        """End the master connection, if there is one; transfers on it break."""
        if not (self._folder / "master").exists():
            return
        try:
            await run(["ssh", "-F", str(self._config), "-O", "exit", ALIAS], plain_environment(), timeout_s=10.0)
        except (OSError, TimeoutError) as error:
            log.warning("an ssh master connection did not end (%s); it ends by itself when idle", error)

    async def close(self) -> None:
        """End the master connection and remove the folder."""
        await self.forget_master()
        shutil.rmtree(self._folder, ignore_errors=True)


def hops(settings: SshSettings) -> list[tuple[str, SshSettings]]:
    """The hosts on the way, the node last, each with the name that the configuration gives it."""
    chain = [(ALIAS, settings)]
    while (jump := chain[0][1].jump) is not None:
        chain.insert(0, (f"jump{len(chain)}", jump))
    return chain


def host_called(host: str, node: str, nodes: Mapping[str, NodeSettings]) -> SshSettings | None:
    """The host that a node's `wol` names as `jump`: another node, or one that the node's own `ssh` jumps through."""
    settings = nodes.get(host)
    if isinstance(settings, SshSettings):
        return settings
    own = nodes.get(node)
    if isinstance(own, SshSettings):
        return next((hop for _, hop in hops(own)[:-1] if hop.host == host), None)
    return None


def known_hosts(settings: SshSettings) -> str:
    """The pinned keys, each under the alias of its host."""
    return "".join(f"{alias} {hop.host_key}\n" for alias, hop in hops(settings))


def configuration(settings: SshSettings, known: Path, socket: Path) -> str:
    """The text of the configuration file."""
    chain = hops(settings)
    text = _COMMON + f"UserKnownHostsFile {_quoted(str(known))}\n"
    previous = None
    for alias, hop in chain:
        text += f"Host {alias}\nHostName {_quoted(hop.host)}\nHostKeyAlias {alias}\nUser {_quoted(hop.user)}\n"
        text += f"Port {hop.port}\nConnectTimeout {max(1, round(hop.connect_timeout_s))}\n"
        text += f"ServerAliveInterval {max(1, round(hop.keepalive_s))}\n"
        if hop.identity is not None:
            text += f"IdentityFile {_quoted(str(hop.identity.expanduser()))}\nIdentitiesOnly yes\n"
        if previous is not None:
            text += f"ProxyJump {previous}\n"
        previous = alias
    text += f"Host {ALIAS}\nControlMaster auto\nControlPath {_quoted(str(socket))}\nControlPersist {MASTER_IDLE_S}\n"
    return text


def _check(hop: SshSettings) -> None:
    """Raises ValueError for what a configuration file of ssh cannot hold."""
    for value in (hop.host, hop.user, str(hop.identity or ""), hop.host_key or ""):
        if not value.isprintable() or '"' in value or value.startswith("-"):
            raise ValueError(f"{value!r} holds a quote or control character, or begins with '-'")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace("%", "%%") + '"'
