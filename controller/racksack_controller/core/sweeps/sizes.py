"""How many points a runner gets at once.

A chunk lasts about as long as the target, from the measured speed of the node (an exponential moving average for each
node, and for each GPU model, so that a node never seen before has an estimate). Targets begin short and grow with the
sweep's age; towards the end chunks are halved again and again, so that all runners end together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from racksack_jobspecs.sweep.spec import Chunking

ALPHA = 0.3
FIRST_TARGET_S = 5.0
TARGET_SHARE = 0.1  # of the time since the start
LEAST_S = 0.25  # a shorter chunk would cost more in telling than in computing
FIRST_POINTS_EACH = 2  # for each slot of a runner whose speed nobody knows
GIVEN_POINTS_MAX = 4096  # of points that travel with their parameters


def learn(speeds: Mapping[str, float], names: tuple[str, ...], points_a_second: float) -> dict[str, float]:
    """The speeds after one more measurement under some names."""
    learnt = dict(speeds)
    for name in names:
        old = learnt.get(name)
        learnt[name] = points_a_second if old is None else ALPHA * points_a_second + (1 - ALPHA) * old
    return learnt


def known_speed(speeds: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    """Points a second of one slot, by the first name that is known."""
    return next((speeds[name] for name in names if name in speeds), None)


def target_s(chunking: Chunking, age_s: float) -> float:
    """How long the next chunk is to last."""
    return min(chunking.target_s, max(FIRST_TARGET_S, TARGET_SHARE * age_s))


def chunk_points(
    chunking: Chunking, *, waiting: int, slots: int, speed: float | None, all_slots: int, age_s: float
) -> int:
    """The size of a runner's next chunk. `speed`: points a second of one slot; `all_slots`: of all runners."""
    if speed is None:
        size = FIRST_POINTS_EACH * slots
    else:
        size = max(slots, math.ceil(speed * slots * target_s(chunking, age_s)))
    share = waiting * slots / max(slots, all_slots)
    least = slots if speed is None else max(slots, math.ceil(speed * slots * LEAST_S))
    size = min(size, max(least, math.ceil(share / 2)))
    if chunking.points_max is not None:
        size = min(size, chunking.points_max)
    return max(1, min(waiting, max(size, chunking.points_min)))
