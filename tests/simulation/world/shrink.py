"""Which of its deeds a broken law needs: the others are left out, half of them at a time, then one by one.

Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 28 (2002), in its simple form.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.world.plan import Deed
from tests.simulation.world.world import Outcome, simulate

TRIES_MAX = 200


def shrink(seed: int, deeds: Sequence[Deed], found: Outcome) -> tuple[list[Deed], Outcome]:
    """The fewest deeds that still break a law, and what happens with them alone."""
    few, size, tries = list(deeds), max(1, len(deeds) // 2), 0
    while size >= 1 and tries < TRIES_MAX:
        at, was = 0, len(few)
        while at < len(few) and tries < TRIES_MAX:
            fewer = few[:at] + few[at + size :]
            tries += 1
            outcome = simulate(seed, fewer)
            if outcome.broken:
                few, found = fewer, outcome
            else:
                at += size
        size = size // 2 if len(few) == was or size > 1 else size
        if size == 1 and len(few) == was:
            break
    return few, found
