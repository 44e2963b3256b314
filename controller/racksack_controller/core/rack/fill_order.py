"""In which order the nodes of a rack that is switched are filled, so that the others go idle and off.

Nodes that are alike: those that have been on longest first. First fit in the order of opening keeps few nodes on, best
fit has no bound (Li, Tang, Cai, "On dynamic bin packing for resource allocation in the cloud", SPAA 2014); expected
ends add nothing to it, since they are too uncertain. Unequal nodes: first where the job prolongs least, by size, the
time for which a node is on (as in Barbalho and others, "Virtual machine allocation with lifetime predictions", MLSys
2023), then the small ones.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from racksack_controller.core.policy import Policy
from racksack_controller.core.rack.amounts import COMPARED
from racksack_controller.core.rack.rack import Floats, Ints, Rack


class FillOrder:
    """The order in one pass. Times are Unix seconds."""

    def __init__(self, rack: Rack, now: float, policy: Policy) -> None:
        self.rack = rack
        self._busy_until: Floats = np.full(len(rack.nodes), now)
        if rack.switched and not rack.is_uniform:
            places = np.flatnonzero(rack.allocations.row >= 0)
            limit_s = policy.default_time_limit_s
            ends = rack.allocations.ends(places, now, default_limit_s=limit_s, predict=policy.predict)
            np.maximum.at(self._busy_until, rack.allocations.row[places], ends)

    @cached_property
    def _size(self) -> Floats:
        """How large each node is, as the sum of its parts of the largest there are."""
        total = self.rack.total[:COMPARED]
        largest = np.maximum(total.max(axis=1, initial=1), 1)
        size: Floats = np.round((total / largest[:, None]).sum(axis=0), 3)
        return size

    def ranks(self, rows: Ints, ends_s: float) -> Ints:
        """The rank of each of `rows` for a job that is expected to end then."""
        rack = self.rack
        longer = np.zeros(len(rows))
        if not rack.is_uniform:
            longer = np.round(np.maximum(0.0, ends_s - self._busy_until[rows]) * self._size[rows])
        order = np.lexsort((rack.opened_s[rows], self._size[rows], longer))
        ranks = np.empty(len(rows), dtype=np.int64)
        ranks[order] = np.arange(len(rows))
        return ranks

    def note(self, rows: list[int], ends_s: float) -> None:
        """A job that is expected to end then was placed on `rows`."""
        self._busy_until[rows] = np.maximum(self._busy_until[rows], ends_s)
