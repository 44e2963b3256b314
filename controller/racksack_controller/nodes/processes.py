"""The helper programs of nodes (rsync, ssh): what they see of our environment, how they ended."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from racksack_controller import programs
from racksack_controller.nodes.transport import Completed


async def run(
    argv: Sequence[str | bytes],
    env: Mapping[str, str],
    timeout_s: float | None = None,
    extend: programs.Extend | None = None,
) -> Completed:
    """Run a program to its end; see `programs.run`. Raises OSError when it cannot start, TimeoutError."""
    return Completed(*await programs.run(argv, env, timeout_s, extend=extend))


def plain_environment() -> dict[str, str]:
    """What helper programs see: the way to programs and keys, and English messages."""
    kept = ("PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "TMPDIR", "XDG_RUNTIME_DIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def last_line(output: bytes) -> str:
    """The last line that says something, for a message."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
