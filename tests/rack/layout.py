"""What a test rack consists of, as plain values, and what follows from them: addresses, MACs, who reaches whom.

A rack has a number, and the number alone makes its names and addresses unlike those of every other rack on the
machine. Nothing routes between its subnets: a server with a leg in two of them is the only way across, as a jump host.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["laptop", "controller", "node"]

SUBNET_OCTETS = {"a": 10, "b": 20, "management": 30, "vpn": 40}
"""Second octet of each subnet's addresses: 10.<octet>.<rack number>.<server>."""

_FIRST_SERVER = 100
_FIRST_BMC = 200
_FIRST_UID = 70_000
_UIDS_PER_RACK = 256


@dataclass(frozen=True)
class ServerSpec:
    """One server. `subnets` are its legs, the first its main one; `users` its accounts, the first the usual one."""

    name: str
    role: Role = "node"
    subnets: tuple[str, ...] = ("a",)
    users: tuple[str, ...] = ("racksack",)
    bmc: bool = False
    """A service processor on the management subnet that lives while the server is off, with a wake-on-LAN ear."""
    boot_delay_s: float = 0.0
    """From power-on to the first sign of life on the network."""
    stop_timeout_s: float = 5.0
    """How long a soft power-off waits for processes to end before it kills them."""
    root_login: bool = False
    """Whether the keys of the rack also open root's account."""
    binds: tuple[str, ...] = ()
    """Directories of the machine that the server sees, writable, at the same path."""
    cgroups: bool = False
    """Whether the server has cgroup (v1) hierarchies of its own under /sys/fs/cgroup, as root may use."""


@dataclass(frozen=True)
class RackSpec:
    """The servers of one rack, in order: a server's address follows from its place in the list."""

    servers: tuple[ServerSpec, ...] = field(default_factory=lambda: usual_servers())

    def __post_init__(self) -> None:
        names = [server.name for server in self.servers]
        if len(set(names)) != len(names):
            raise ValueError(f"two servers of one rack have the same name: {names}")
        if len(names) > 50:
            raise ValueError(f"a rack holds at most 50 servers, not {len(names)}")
        for server in self.servers:
            _check(server)

    def index(self, name: str) -> int:
        """The place of a server in the list; KeyError if there is none of that name."""
        for index, server in enumerate(self.servers):
            if server.name == name:
                return index
        raise KeyError(f"no server {name!r} in this rack; it has {', '.join(s.name for s in self.servers)}")


def _check(server: ServerSpec) -> None:
    # An interface name holds 15 characters, and ours end in "-bmc" at the longest.
    if not server.name.isalnum() or len(server.name) > 11:
        raise ValueError(f"server name {server.name!r}: use 1 to 11 letters and digits")
    if not server.subnets or set(server.subnets) - set(SUBNET_OCTETS):
        raise ValueError(f"server {server.name}: subnets are {sorted(SUBNET_OCTETS)}, not {server.subnets}")
    if not 1 <= len(server.users) <= 4:
        raise ValueError(f"server {server.name}: give 1 to 4 users, not {len(server.users)}")


def usual_servers() -> tuple[ServerSpec, ...]:
    """A laptop, a controller and three nodes, of which r2 is reached only through r1."""
    return (
        ServerSpec("laptop", role="laptop", users=("researcher",)),
        ServerSpec("controller", role="controller", subnets=("a", "management"), users=("racksack", "researcher")),
        ServerSpec("r1", subnets=("a", "b"), bmc=True),
        ServerSpec("r2", subnets=("b",), bmc=True),
        ServerSpec("r3", bmc=True),
    )


def address(rack: int, spec: RackSpec, name: str, subnet: str | None = None) -> str:
    """The server's address in a subnet (its main one by default)."""
    index = spec.index(name)
    chosen = subnet or spec.servers[index].subnets[0]
    return f"10.{SUBNET_OCTETS[chosen]}.{rack}.{_FIRST_SERVER + index}"


def bmc_address(rack: int, spec: RackSpec, name: str) -> str:
    """The address of the server's BMC on the management subnet."""
    return f"10.{SUBNET_OCTETS['management']}.{rack}.{_FIRST_BMC + spec.index(name)}"


def broadcast(rack: int, subnet: str) -> str:
    """The broadcast address of a subnet, where magic packets go."""
    return f"10.{SUBNET_OCTETS[subnet]}.{rack}.255"


def mac(rack: int, spec: RackSpec, name: str, subnet: str | None = None) -> str:
    """The MAC of the server's leg in a subnet; the main leg's is the one that wakes it."""
    index = spec.index(name)
    chosen = subnet or spec.servers[index].subnets[0]
    return f"52:54:00:{rack:02x}:{SUBNET_OCTETS[chosen]:02x}:{_FIRST_SERVER + index:02x}"


def uid(rack: int, spec: RackSpec, name: str, user: str) -> int:
    """The number of an account: unlike any other on the machine, so that limits counted by user stay apart."""
    index = spec.index(name)
    return _FIRST_UID + rack * _UIDS_PER_RACK + index * 4 + spec.servers[index].users.index(user)


def jumps(spec: RackSpec, origin: str, target: str) -> tuple[str, ...] | None:
    """The jump hosts from one server to another, in order: () in a common subnet, None where there is no way."""
    legs = {server.name: set(server.subnets) for server in spec.servers}
    came_from: dict[str, str] = {origin: origin}
    queue = deque([origin])
    while queue and target not in came_from:
        here = queue.popleft()
        for name in legs:
            if name not in came_from and legs[here] & legs[name]:
                came_from[name] = here
                queue.append(name)
    if target not in came_from:
        return None
    path: list[str] = []
    step = came_from[target]
    while step != origin:
        path.append(step)
        step = came_from[step]
    return tuple(reversed(path))


def shared_subnet(spec: RackSpec, first: str, second: str) -> str | None:
    """A subnet in which two servers see each other, preferring the second's main one."""
    legs = spec.servers[spec.index(first)].subnets
    return next((subnet for subnet in spec.servers[spec.index(second)].subnets if subnet in legs), None)
