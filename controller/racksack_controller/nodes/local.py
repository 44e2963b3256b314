"""The controller's own machine as a node: the agent is a child in a session of its own, copies are hard links."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from racksack_controller import programs
from racksack_controller.nodes import copying, processes
from racksack_controller.nodes.errors import NodeUnreachable, TransferFailed
from racksack_controller.nodes.settings import LocalSettings
from racksack_controller.nodes.transport import Announced, Completed

# What tells programs here where they are, where packages come from and how the network is reached; nothing else of the
# controller's environment is the jobs' business.
_KEPT = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"}
_KEPT |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"}
_KEPT |= {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_KEPT_PREFIXES = ("LC_", "PIP_", "UV_")

END_TIMEOUT_S = 2.0


class LocalTransport:
    """A way to this machine."""

    by_links = True

    def __init__(self, name: str, settings: LocalSettings) -> None:
        self._name = name
        self.python = sys.executable
        self.home = str(settings.home.expanduser().absolute())
        self._agent: LocalPipes | None = None

    async def connect(self) -> None:
        """This machine is always here."""
        await self.close()

    async def open_agent(self, argv: Sequence[str]) -> LocalPipes:
        """Start a program with pipes."""
        try:
            talking = await programs.talk(argv, _environment(), cwd="/")
        except OSError as error:
            raise NodeUnreachable(f"{self._name}: the agent could not be started with {argv[0]} ({error}).") from error
        self._agent = LocalPipes(talking)
        return self._agent

    async def push(self, source: Path, remote: str, alike: Sequence[str] = (), verify: bool = False) -> None:
        """Link or copy; there is nothing to resume or to compare, so it starts from the beginning."""
        await self._copy(source, Path(remote), f"Copying {source.name[:20]} to {self._name}")

    async def pull(self, remote: str, target: Path, announced: Announced, alike: Sequence[Path] = ()) -> None:
        """Link or copy; nothing arrives that this machine has not already."""
        await self._copy(Path(remote), target, f"Fetching {remote} from {self._name}", munge=True)

    async def _copy(self, source: Path, target: Path, what: str, munge: bool = False) -> None:
        try:
            await asyncio.to_thread(copying.copy, source, target, munge)
        except OSError as error:
            full = " Free space on this machine." if (kind := copying.kind_of(error)) == "disk_full" else ""
            raise TransferFailed(f"{what} failed: {error.strerror or error}.{full}", kind) from error

    async def share_port(self, port: int, wanted: int) -> int:
        """It is the same machine."""
        del wanted
        return port

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """See Transport."""
        return list(argv)

    async def run(self, argv: Sequence[str], timeout_s: float = 30.0) -> Completed:
        """Run a program to its end."""
        try:
            return await processes.run(list(argv), _environment(), timeout_s)
        except TimeoutError:
            raise NodeUnreachable(f"{self._name}: {argv[0]} did not end within {timeout_s:g} s.") from None
        except OSError as error:
            return Completed(127, b"", str(error).encode())

    async def close(self) -> None:
        """End the agent."""
        if self._agent is not None:
            agent, self._agent = self._agent, None
            await agent.end()


class LocalPipes:
    """The pipes of a child."""

    def __init__(self, talking: programs.Talking) -> None:
        process = talking.process
        assert process.stdin is not None  # noqa: S101 - its maker asked for pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        self._talking, self._process = talking, process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._words = asyncio.create_task(_tail(process.stderr))

    async def read(self, limit: int) -> bytes:
        """See Pipes."""
        return await self._stdout.read(limit)

    def write(self, data: bytes) -> None:
        """See Pipes."""
        if self._stdin.is_closing():
            raise BrokenPipeError("its input is closed")
        self._stdin.write(data)

    async def drain(self) -> None:
        """See Pipes."""
        await self._stdin.drain()

    async def last_words(self) -> tuple[int | None, str]:
        """See Pipes."""
        try:
            async with asyncio.timeout(1.0):
                words = await asyncio.shield(self._words)
                return await self._process.wait(), processes.last_line(words)
        except TimeoutError:
            return None, ""

    def close(self) -> None:
        """See Pipes. The agent sees the end of its input and ends."""
        self._stdin.close()

    async def end(self) -> None:
        """Wait for the agent, which ends at the end of its input; one that hangs is killed, which no job notices."""
        dropping = asyncio.create_task(self._drop_output())
        await self._talking.end(END_TIMEOUT_S)
        dropping.cancel()

    async def _drop_output(self) -> None:
        while await self._stdout.read(65536):
            pass


async def _tail(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while data := await stream.read(4096):
        kept = (kept + data)[-4096:]
    return kept


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
