"""Sends one packet several times as a broadcast. Standard library only, Python 3.9+: its text also runs on a jump host.

Arguments: packet in hexadecimal, address, port, interface (`-` for none), how often, seconds between two.
An interface given by name binds the socket to the device; given by address, to that source address.
"""

from __future__ import annotations

import socket
import sys
import time


def send(packet: bytes, address: str, port: int, interface: str, repeats: int, spacing_s: float) -> None:
    """Send `packet` `repeats` times. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if interface and interface[0].isdigit():
            sender.bind((interface, 0))
        elif interface and interface != "-":
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        for turn in range(repeats):
            if turn:
                time.sleep(spacing_s)
            sender.sendto(packet, (address, port))


def main(arguments: list[str]) -> None:
    """Send as the arguments say; a fault is one line on stderr and exit code 1."""
    packet, address, port, interface, repeats, spacing_s = arguments
    try:
        send(bytes.fromhex(packet), address, int(port), interface, int(repeats), float(spacing_s))
    except OSError as error:
        sys.exit(f"{address}: {error.strerror or error}")


if __name__ == "__main__":
    main(sys.argv[1:])
