"""What proves that a node runs on: its boot id, and that its own init does not say it is going down."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from racksack_controller.effects.proof import runs_on


@pytest.mark.parametrize(
    ("said", "so"),
    [
        ("boot-1\nrunning\n", True),
        ("boot-1\ndegraded\n", True),  # a failed unit: the usual state of many a server
        ("boot-1\nstopping\n", False),
        ("boot-1\n", False),  # it does not say
        ("boot-2\nrunning\n", False),  # it has restarted
        ("", False),
    ],
)
async def test_what_a_node_says(said: str, so: bool) -> None:
    async def run(argv: Sequence[str]) -> tuple[int, str, str]:
        assert argv[0] == "sh"
        return 1, said, ""

    assert await runs_on(run, "boot-1") is so


@pytest.mark.parametrize(
    ("systemctl", "busy", "so"),
    [
        ("echo running", False, True),
        ("echo degraded; exit 1", False, True),
        ("echo stopping; exit 1", False, False),
        ("echo offline; exit 1", False, True),  # its init is not systemd, and nothing says that it goes down
        ("exit 127", False, True),
        ("echo offline; exit 1", True, False),
        ("exit 127", True, False),
    ],
)
async def test_the_command_tells_with_any_init(tmp_path: Path, systemctl: str, busy: bool, so: bool) -> None:
    """Run here, with a systemctl that says one thing or another, and (busy) a program called poweroff."""
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{systemctl}\n")
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "poweroff").symlink_to("/bin/sleep")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    async def run(argv: Sequence[str]) -> tuple[int, str, str]:
        done = await asyncio.create_subprocess_exec(*argv, env=env, stdout=-1, stderr=-1)
        stdout, stderr = await done.communicate()
        return done.returncode or 0, stdout.decode(), stderr.decode()

    going = await asyncio.create_subprocess_exec(tmp_path / "poweroff", "60") if busy else None
    try:
        assert await runs_on(run, boot_id) is so
    finally:
        if going is not None:
            going.kill()
            await going.wait()


async def test_one_that_cannot_be_reached_is_not_known_to_run() -> None:
    async def run(argv: Sequence[str]) -> tuple[int, str, str]:
        raise OSError("r1 cannot be reached")

    assert not await runs_on(run, "boot-1")
