"""The rack's wake-on-LAN ears: one process that hears, for every server with a BMC, what arrives on its own subnet.

A network card that is asleep looks for its own MAC sixteen times after six bytes of ones, anywhere in any frame. So
do the ears: raw sockets in the BMCs' namespaces, where an IP address, a port or the server's being on play no part.
Usage: wake.py RACK
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.rack import network, state
from tests.rack.assembly import Rack
from tests.rack.server import Server

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1


def magic(mac: str) -> bytes:
    """What a magic packet for a MAC contains."""
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) * 16


def ear(server: Server) -> socket.socket:
    """A socket that hears every frame on the server's own subnet."""
    network.enter(network.path(server.bmc_namespace))
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    heard.bind(("ear", 0))
    membership = socket.if_nametoindex("ear").to_bytes(4, sys.byteorder)
    membership += _PACKET_MR_PROMISC.to_bytes(2, sys.byteorder) + bytes(10)
    heard.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    return heard


def hear(server: Server, frame: bytes) -> None:
    """Switch a server on if a frame asks for it and its network works."""
    if magic(server.mac) not in frame:
        return
    if server.take_magic_packet():
        state.append_event(server.rack, server.name, "magic-packet")
        server.power_on("wake-on-LAN")
    else:
        state.append_event(server.rack, server.name, "magic-dropped")


def main() -> None:
    """Listen until killed; a line on standard output says that the ears are open."""
    rack = Rack.load(int(sys.argv[1]))
    home = Path("/proc/self/ns/net").open()  # noqa: SIM115 -- held for the process's life
    with DefaultSelector() as selector:
        for server in rack.servers.values():
            if server.spec.bmc:
                selector.register(ear(server), EVENT_READ, server)
        network.enter(Path(f"/proc/self/fd/{home.fileno()}"))
        print("ready", flush=True)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                hear(key.data, key.fileobj.recv(65536))


if __name__ == "__main__":
    main()
