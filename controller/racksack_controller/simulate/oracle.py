"""What knowing everything would need: at each instant, the fewest nodes that hold what runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from racksack_controller.simulate.engine import Outcome


def oracle_node_hours(outcomes: Sequence[Outcome], cpus: float) -> float:
    """Node-hours if at each instant only so many equal nodes of `cpus` were on as the running processors fill.

    A bound from below where jobs lie on one node: it cuts them up and moves them for nothing.
    """
    changes: list[tuple[float, float]] = []
    for one in outcomes:
        if one.started_s is not None and one.ended_s is not None:
            changes += [(one.started_s, one.task.processors), (one.ended_s, -one.task.processors)]
    total, used, since = 0.0, 0.0, 0.0
    for at_s, change in sorted(changes):
        total += (at_s - since) * math.ceil(round(used / cpus, 9))
        used, since = used + change, at_s
    return total / 3600.0
