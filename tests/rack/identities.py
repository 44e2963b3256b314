"""Keys, accounts and ssh configuration of a rack's servers: who may log in where, and which host key to expect.

Every server has a host key of its own, every account of a laptop or controller host a client key of its own. A key
opens the account of the same name everywhere, and the accounts of nodes, which belong to the controller and its users.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.rack import layout
from tests.rack.layout import RackSpec, ServerSpec


def host_key(rack: Path, server: str) -> Path:
    """Where the private host key of a server is kept; the public one is beside it with `.pub`."""
    return rack / "keys" / f"{server}.host"


def client_key(rack: Path, server: str, user: str) -> Path:
    """Where the private key of an account on a laptop or controller host is kept."""
    return rack / "keys" / f"{server}.{user}"


def public(key: Path) -> str:
    """The public half of a key: type and base64, without the comment."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


def make_keys(rack: Path, spec: RackSpec) -> None:
    """Make every key of a rack, at the same time."""
    (rack / "keys").mkdir(mode=0o700)
    keys = [host_key(rack, server.name) for server in spec.servers]
    keys += [client_key(rack, server.name, user) for server, user in _key_holders(spec)]
    makers = [
        subprocess.Popen(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key.name, "-f", str(key)])
        for key in keys
    ]
    for maker, key in zip(makers, keys, strict=True):
        if maker.wait(timeout=60) != 0:
            raise RuntimeError(f"ssh-keygen could not make {key}")


def _key_holders(spec: RackSpec) -> list[tuple[ServerSpec, str]]:
    return [(server, user) for server in spec.servers if server.role != "node" for user in server.users]


def authorized_keys(rack: Path, spec: RackSpec, server: ServerSpec, account: str) -> str:
    """The authorized_keys of an account."""
    everyone = server.role == "node"
    return "".join(
        f"{public(client_key(rack, holder.name, user))} {user}@{holder.name}\n"
        for holder, user in _key_holders(spec)
        if everyone or user == account
    )


def known_hosts(rack: Path, number: int, spec: RackSpec) -> str:
    """The host keys of all servers under all their addresses and names."""
    lines = []
    for server in spec.servers:
        names = [server.name, *(layout.address(number, spec, server.name, subnet) for subnet in server.subnets)]
        lines.append(f"{','.join(names)} {public(host_key(rack, server.name))}\n")
    return "".join(lines)


def login(spec: RackSpec, user: str, target: str) -> str:
    """The account that a user of the rack has on a server: the one of the same name, else the server's usual one."""
    users = spec.servers[spec.index(target)].users
    return user if user in users else users[0]


def ssh_config(number: int, spec: RackSpec, origin: str, user: str) -> str:
    """A ~/.ssh/config with which `ssh NAME` works for every server that can be reached, through jumps where needed."""
    blocks = []
    for server in spec.servers:
        way = layout.jumps(spec, origin, server.name)
        if way is None or server.name == origin:
            continue
        last_hop = way[-1] if way else origin
        subnet = layout.shared_subnet(spec, last_hop, server.name)
        block = [
            f"Host {server.name}",
            f"HostName {layout.address(number, spec, server.name, subnet)}",
            f"User {login(spec, user, server.name)}",
            "IdentityFile ~/.ssh/id_ed25519",
            "StrictHostKeyChecking yes",
        ]
        if way:
            block.append(f"ProxyJump {last_hop}")
        blocks.append("\n  ".join(block) + "\n")
    return "\n".join(blocks)


def nodes_config(rack: Path, number: int, spec: RackSpec, origin: str, identity: str) -> dict[str, Any]:
    """The `nodes:` part of a controller's configuration: how it reaches every node of the rack."""
    nodes: dict[str, Any] = {}
    for server in spec.servers:
        way = layout.jumps(spec, origin, server.name)
        if server.role != "node" or way is None:
            continue
        last_hop = way[-1] if way else origin
        ssh: dict[str, Any] = {
            "host": layout.address(number, spec, server.name, layout.shared_subnet(spec, last_hop, server.name)),
            "user": server.users[0],
            "identity": identity,
            "host_key": public(host_key(rack, server.name)),
        }
        if way:
            ssh["jump"] = last_hop
        nodes[server.name] = {"ssh": ssh}
    return nodes
