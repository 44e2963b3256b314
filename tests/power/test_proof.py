"""What proves that a node runs on: its boot id, and that its own init does not say it is going down."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from racksack_controller.effects.proof import runs_on


@pytest.mark.parametrize(
    ("said", "so"),
    [
        ("boot-1\nrunning\n", True),
        ("boot-1\ndegraded\n", True),  # a failed unit: the usual state of many a server
        ("boot-1\nstopping\n", False),
        ("boot-1\noffline\n", False),  # its init is not systemd
        ("boot-1\n", False),  # it has no systemctl
        ("boot-2\nrunning\n", False),  # it has restarted
        ("", False),
    ],
)
async def test_what_a_node_says(said: str, so: bool) -> None:
    async def run(argv: Sequence[str]) -> tuple[int, str, str]:
        assert argv[0] == "sh"
        return 1, said, ""

    assert await runs_on(run, "boot-1") is so


async def test_one_that_cannot_be_reached_is_not_known_to_run() -> None:
    async def run(argv: Sequence[str]) -> tuple[int, str, str]:
        raise OSError("r1 cannot be reached")

    assert not await runs_on(run, "boot-1")
