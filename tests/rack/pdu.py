"""A network power outlet: the plainest of power devices, which knows on, off and status and is used by a command.

It stands in a server's BMC namespace and switches that server; `off` takes the current away. The other half of this
file is the command with which a controller host talks to it, as an owner's own script would: a line goes there, a line
comes back. Standard library only on that side.

    pdu.py serve RACK SERVER ADDRESS PORT
    pdu.py ADDRESS:PORT on|off|status       prints on or off; exit code 1 with a sentence if it could not
"""

from __future__ import annotations

import socket
import socketserver
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.rack.server import Server

_TIMEOUT_S = 5.0


def ask(outlet: str, verb: str) -> str:
    """The outlet's answer to one verb; OSError if it does not answer."""
    host, _, port = outlet.partition(":")
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as connection:
        connection.sendall(f"{verb}\n".encode())
        with connection.makefile() as answers:
            return answers.readline().strip()


def answer(server: Server, verb: str) -> str:
    """Do what a line asks for and say how it is now."""
    if verb == "on":
        server.power_on("outlet")
    elif verb == "off":
        server.power_cut("outlet")
    elif verb != "status":
        return f"error: unknown command {verb!r}"
    return "on" if server.running else "off"


def serve(rack: int, name: str, address: str, port: int) -> None:
    """Serve until killed; a line on standard output says that it listens."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.rack.assembly import Rack

    server = Rack.load(rack)[name]

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(f"{answer(server, self.rfile.readline(80).decode(errors='replace').strip())}\n".encode())

    with socketserver.TCPServer((address, port), Handler) as listening:
        print("ready", flush=True)
        listening.serve_forever()


def main(arguments: list[str]) -> int:
    """Serve, or ask."""
    if arguments[0] == "serve":
        serve(int(arguments[1]), arguments[2], arguments[3], int(arguments[4]))
    try:
        said = ask(*arguments)
    except OSError as error:
        said = f"error: the outlet does not answer: {error}"
    print(said, file=sys.stderr if said.startswith("error") else sys.stdout)
    return 1 if said.startswith("error") or not said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
