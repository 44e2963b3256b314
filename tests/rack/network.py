"""The rack's wires: bridges in a network namespace of their own, and what can go wrong with a cable.

Nothing is made in the machine's own network namespace. A server's ports are made by the server when it boots
(`init.py`) and vanish with it; BMCs have namespaces that stay. A partition takes a port off its bridge, so that the
link looks healthy and every packet is lost; a pulled cable takes the carrier away too.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.rack import layout
from tests.rack.layout import RackSpec, ServerSpec

_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


def bridge_namespace(number: int) -> str:
    """The network namespace that holds the rack's bridges."""
    return f"racksack-{number}-bridges"


def bmc_namespace(number: int, server: str) -> str:
    """The network namespace of a server's BMC."""
    return f"racksack-{number}-bmc-{server}"


def namespaces(number: int) -> list[str]:
    """The rack's network namespaces that exist now."""
    if not _NAMESPACES.exists():
        return []
    return sorted(entry.name for entry in _NAMESPACES.glob(f"racksack-{number}-*"))


def port(server: str, subnet: str) -> str:
    """The name of the bridge's end of a server's cable."""
    return f"{server}-{subnet[0]}"


def bridge(subnet: str) -> str:
    """The name of a subnet's bridge."""
    return f"br-{subnet}"


def run_ip(namespace: str, lines: Iterable[str], ignore_errors: bool = False) -> None:
    """Run lines of ip(8) in a namespace; RuntimeError with what ip said."""
    command = ["ip", "-n", namespace, *(["-force"] if ignore_errors else []), "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True, check=False)
    if done.returncode != 0 and not ignore_errors:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def build(number: int, spec: RackSpec) -> None:
    """Make the bridges and the BMCs' namespaces."""
    bridges = bridge_namespace(number)
    subprocess.run(["ip", "netns", "add", bridges], check=True)
    lines = ["link set lo up"]
    for subnet, octet in layout.SUBNET_OCTETS.items():
        lines.append(f"link add name {bridge(subnet)} type bridge")
        # The bridge's own address lets a forwarder of the rack stand in every subnet.
        lines.append(f"addr add 10.{octet}.{number}.1/24 dev {bridge(subnet)}")
        lines.append(f"link set {bridge(subnet)} up")
    run_ip(bridges, lines)
    # The bridges' namespace must not be a router: there is no way between subnets but through a server.
    inside(bridges, ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"])
    for server in spec.servers:
        if server.bmc:
            _build_bmc(number, spec, server)


def _build_bmc(number: int, spec: RackSpec, server: ServerSpec) -> None:
    """A BMC with one leg on the management subnet, and one without address where its server's packets arrive."""
    namespace = bmc_namespace(number, server.name)
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    lines = []
    for outer, inner, subnet in (("bmc", "mgmt", "management"), ("ear", "ear", server.subnets[0])):
        name = f"{server.name}-{outer}"
        lines.append(f"link add {name} type veth peer name {inner} netns {namespace}")
        lines.append(f"link set {name} master {bridge(subnet)} up")
    run_ip(bridge_namespace(number), lines)
    address = layout.bmc_address(number, spec, server.name)
    run_ip(namespace, ["link set lo up", f"addr add {address}/24 dev mgmt", "link set mgmt up", "link set ear up"])


def remove(number: int) -> None:
    """Delete the rack's namespaces and with them every interface of the rack."""
    for name in namespaces(number):
        subprocess.run(["ip", "netns", "del", name], check=True)


def inside(namespace: str, argv: list[str]) -> None:
    """Run a command in a network namespace; CalledProcessError if it fails."""
    subprocess.run(["nsenter", f"--net={_NAMESPACES / namespace}", "--", *argv], check=True)


def connect(number: int, server: str, subnets: Iterable[str], connected: bool) -> None:
    """Put a server's ports on their bridges or take them off; a port that is not there (server off) is passed over."""
    run_ip(
        bridge_namespace(number),
        [
            f"link set {port(server, subnet)} " + (f"master {bridge(subnet)}" if connected else "nomaster")
            for subnet in subnets
        ],
        ignore_errors=True,
    )


def set_cable(number: int, server: str, subnets: Iterable[str], plugged: bool) -> None:
    """Plug a server's cables in or pull them; both ends see the carrier come or go."""
    state = "up" if plugged else "down"
    lines = [f"link set {port(server, subnet)} {state}" for subnet in subnets]
    run_ip(bridge_namespace(number), lines, ignore_errors=True)


def connect_bmc(number: int, server: ServerSpec, connected: bool) -> None:
    """Put a BMC's ports on their bridges or take them off."""
    legs = ((f"{server.name}-bmc", "management"), (f"{server.name}-ear", server.subnets[0]))
    run_ip(
        bridge_namespace(number),
        [f"link set {name} " + (f"master {bridge(subnet)}" if connected else "nomaster") for name, subnet in legs],
    )


def drop_towards(number: int, server: str, subnets: Iterable[str], dropping: bool) -> None:
    """Lose every packet on its way to the server, and none from it: a token bucket too small for any packet."""
    for subnet in subnets:
        device = port(server, subnet)
        action = (
            ["replace", "dev", device, "root", "tbf", "rate", "8bit", "burst", "1", "limit", "1"]
            if dropping
            else ["del", "dev", device, "root"]
        )
        subprocess.run(["tc", "-n", bridge_namespace(number), "qdisc", *action], check=True, capture_output=True)


def enter(namespace: Path) -> None:
    """Move the calling thread into a network namespace; its sockets from before stay where they were made."""
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open() as handle:
        if libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {namespace}: {os.strerror(number)}")


def path(namespace: str) -> Path:
    """Where a named network namespace can be opened."""
    return _NAMESPACES / namespace


def pids_in(namespace: str) -> list[int]:
    """The processes in a named network namespace: all of them the rack's, since nobody else enters it."""
    done = subprocess.run(["ip", "netns", "pids", namespace], text=True, capture_output=True, check=True)
    return [int(word) for word in done.stdout.split()]
