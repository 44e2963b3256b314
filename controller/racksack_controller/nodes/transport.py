"""What `local` and `ssh` differ in: how the agent's pipes are opened and how bytes are copied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec


class Pipes(Protocol):
    """The two ends of a running agent. Everything raises OSError when the connection breaks."""

    async def read(self, limit: int) -> bytes:
        """Up to `limit` bytes; empty at the end of the stream."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the agent."""

    async def drain(self) -> None:
        """Wait until the queue is short."""

    async def last_words(self) -> tuple[int | None, str]:
        """The exit code if there is one, and the end of the agent's stderr. Waits a second at most."""

    def close(self) -> None:
        """Let go; the agent ends by itself when its input does."""


class Completed(msgspec.Struct, frozen=True):
    """A program that ran on the node."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Announced(msgspec.Struct, frozen=True):
    """What a node reported that a folder holds; much more than that is not taken from it."""

    files: int
    bytes: int


class Transport(Protocol):
    """A way to one machine."""

    python: str  # the interpreter to call there
    home: str  # the agent's folder there
    by_links: bool  # copies cost next to nothing, so nothing needs to be packed

    async def connect(self) -> None:
        """Reach the machine, afresh. Raises NodeUnreachable, HostKeyChanged, NodeUnusable."""

    async def open_agent(self, argv: Sequence[str]) -> Pipes:
        """Start a program there with pipes. Raises NodeUnreachable."""

    async def push(self, source: Path, remote: str, alike: Sequence[str] = (), verify: bool = False) -> None:
        """Make `remote` like `source`, a folder or a file; resumes. Raises TransferFailed, NodeUnusable.

        alike: folders there that may hold the same files already. verify: compare content, not only sizes and times.
        """

    async def pull(self, remote: str, target: Path, announced: Announced, alike: Sequence[Path] = ()) -> None:
        """Make the folder `target` like the folder `remote`; resumes. Raises TransferFailed, NodeUnusable.

        alike: folders here that may hold the same files (by size and time) already; these are linked.

        It ends (TransferFailed) when clearly more arrives than was announced.

        Symbolic links arrive munged (`links.MUNGED` before their target), so that none can be followed by mistake.
        """

    async def share_port(self, port: int, wanted: int) -> int:
        """Let programs there reach a port of this machine's loopback interface; the port of theirs, `wanted` if that is
        free. It lasts as long as the connection. Raises NodeUnreachable, NodeUnusable where that is not allowed.
        """

    async def run(self, argv: Sequence[str], timeout_s: float = 30.0) -> Completed:
        """Run a program there to its end. Raises NodeUnreachable."""

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """What to run on the controller's machine to have `argv` there with a terminal. Raises NodeUnusable."""

    async def close(self) -> None:
        """Let go of the machine."""
