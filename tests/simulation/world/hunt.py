"""Finds planted bugs: how many seeds each one takes."""

from __future__ import annotations

import msgspec

from tests.simulation.world.plan import draw
from tests.simulation.world.planted import BUGS
from tests.simulation.world.world import simulate

SEEDS_MAX = 150


class Found(msgspec.Struct, frozen=True):
    """The seed that caught a bug, and by what; None: none did."""

    seed: int | None
    law: str


def hunt(name: str, seeds_max: int = SEEDS_MAX) -> Found:
    """Run seeds with this bug planted until a law is broken."""
    for seed in range(seeds_max):
        with BUGS[name]():
            outcome = simulate(seed, draw(seed))
        if outcome.broken:
            return Found(seed, outcome.broken)
    return Found(None, "")
