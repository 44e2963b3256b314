"""The key of a host, fetched once for a person to compare (`racksack node add`), then pinned."""

from __future__ import annotations

import asyncio

import msgspec

from racksack_controller.nodes.errors import NodeUnreachable
from racksack_controller.nodes.settings import SshSettings


class HostKey(msgspec.Struct, frozen=True):
    """A host's public key as it is stored, and its fingerprint as ssh prints it (`SHA256:...`)."""

    line: str
    fingerprint: str
    kind: str  # ED25519, ECDSA, RSA, as in the names of the host's own files


def fingerprint(line: str) -> str:
    """The fingerprint of a stored key. Raises ValueError for what is no key."""
    import asyncssh

    try:
        return asyncssh.import_public_key(line).get_fingerprint()
    except asyncssh.KeyImportError as error:
        raise ValueError(str(error)) from None


async def fetch(settings: SshSettings) -> HostKey:
    """The key that the host shows now; nothing says yet that it is the right one. Raises as `ssh.connect`.

    The jump hosts on the way are checked against their own stored keys.
    """
    import asyncssh

    from racksack_controller.nodes import ssh
    from racksack_controller.nodes.openssh import hops

    tunnels: list[asyncssh.SSHClientConnection] = []
    try:
        for alias, hop in hops(settings)[:-1]:
            tunnels.append(await ssh.connect(alias, hop, tunnels[-1] if tunnels else None))
        async with asyncio.timeout(settings.connect_timeout_s):
            key = await asyncssh.get_server_host_key(
                settings.host,
                settings.port,
                tunnel=tunnels[-1] if tunnels else (),
                config=None,
                server_host_key_algs=ssh.HOST_KEY_ALGORITHMS,  # of several keys the first of these: ed25519
            )
    except TimeoutError:
        raise NodeUnreachable(f"{settings.address} did not answer within {settings.connect_timeout_s:g} s.") from None
    except (OSError, asyncssh.Error) as error:
        raise NodeUnreachable(f"{settings.address} cannot be reached ({error}).") from error
    finally:
        for tunnel in reversed(tunnels):
            tunnel.abort()
    if key is None:
        raise NodeUnreachable(f"{settings.address} presented no host key.")
    kind, text = key.export_public_key("openssh").decode().split()[:2]
    return HostKey(f"{kind} {text}", key.get_fingerprint(), _kind(kind))


def _kind(algorithm: str) -> str:
    if algorithm.startswith("ecdsa"):
        return "ECDSA"
    return algorithm.removeprefix("ssh-").upper()
