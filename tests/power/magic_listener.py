"""A network card with Wake-on-LAN: a UDP listener that switches its machine on at a magic packet for its address."""

from __future__ import annotations

import argparse
import json
import socket
import threading

from tests.power import machine as machines
from tests.power.machine import Machine


class MagicListener:
    """Listens from `start` to `stop`. The first `drop_first` good packets are missed."""

    def __init__(
        self, machine: Machine, mac: str, listen: str = "127.0.0.1", port: int = 0, drop_first: int = 0
    ) -> None:
        self.packets: list[bytes] = []
        self.woken = 0
        self._machine = machine
        self._magic = b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) * 16
        self._left_to_drop = drop_first
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((listen, port))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self.port = int(self._socket.getsockname()[1])

    def start(self) -> MagicListener:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def stop(self) -> None:
        self._ended.set()

    def _listen(self) -> None:
        with self._socket:
            while not self._ended.is_set():
                try:
                    packet = self._socket.recv(2048)
                except TimeoutError:
                    continue
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        self.packets.append(packet)
        if self._magic not in packet:
            return
        if self._left_to_drop > 0:
            self._left_to_drop -= 1
        elif not self._machine.is_on():
            self._machine.on()
            self.woken += 1


def main() -> None:
    """Listen until ended; the first line says where, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    machines.add_arguments(parser, port=9)
    parser.add_argument("--mac", required=True)
    arguments = parser.parse_args()
    drop_first = int(dict(fault.split("=", 1) for fault in arguments.fault).get("drop_first", "0"))
    listener = MagicListener(
        machines.machine_of(arguments), arguments.mac, arguments.listen, arguments.port, drop_first
    )
    listener.start()
    print(json.dumps({"port": listener.port}), flush=True)
    machines.wait_for_end()


if __name__ == "__main__":
    main()
