"""A way into the rack: listens on the machine's loopback and connects from inside a server, to its own loopback.

So a browser on the machine sees a page that a server offers on 127.0.0.1 only, as through `ssh -L`. The server's
network namespace is entered for each connection, so the way survives power cycles.
Usage: forward.py RACK SERVER PORT LOCAL_PORT (0 picks one); writes the chosen port to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.rack import network
from tests.rack.assembly import Rack
from tests.rack.server import Server


async def connect(server: Server, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of the server's loopback; ConnectionError if it is off or nothing listens."""
    pid1 = server.pid1
    if pid1 is None:
        raise ConnectionRefusedError(f"{server.name} is off")
    network.enter(Path(f"/proc/{pid1.pid}/ns/net"))
    # A socket belongs to the namespace in which it was made, whatever its process does later.
    inside = socket.socket()
    inside.setblocking(False)
    await asyncio.get_running_loop().sock_connect(inside, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=inside)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what arrives until there is no more."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def main() -> None:
    """Serve until killed."""
    rack = Rack.load(int(sys.argv[1]))
    server, port = rack[sys.argv[2]], int(sys.argv[3])

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                inner_reader, inner_writer = await connect(server, port)
                await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
                inner_writer.close()
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", int(sys.argv[4]))
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
