"""Sends a packet as a broadcast. Standard library only, Python 3.9+: its text also runs on a jump host.

Arguments: packet in hexadecimal, address, port, interface (`-` for none), how many (0: only try whether it could).
An interface given by name binds the socket to the device; given by address, to that source address.
"""

from __future__ import annotations

import socket
import sys


def send(packet: bytes, address: str, port: int, interface: str, packets: int) -> None:
    """Send `packet` so many times. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if interface and interface[0].isdigit():
            sender.bind((interface, 0))
        elif interface and interface != "-":
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        for _ in range(packets):
            sender.sendto(packet, (address, port))


def main(arguments: list[str]) -> None:
    """Send as the arguments say; a fault is one line on stderr and exit code 1."""
    packet, address, port, interface, packets = arguments
    try:
        send(bytes.fromhex(packet), address, int(port), interface, int(packets))
    except OSError as error:
        sys.exit(f"{address}: {error.strerror or error}")


if __name__ == "__main__":
    main(sys.argv[1:])
