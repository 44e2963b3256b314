"""What questions about the present are answered from. Asking changes nothing: no record, no index, no cache.

A reading is good for one moment. What one answer has worked out is kept in it for the next one, so that a list of a
thousand jobs is explained at the price of one look at the rack.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from racksack_controller.core.placing.backfill import Reservation
from racksack_controller.core.policy import DEFAULT, Policy
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.queue.limits import Limits
from racksack_controller.core.queue.order import use_by_owner
from racksack_controller.core.rack.profile import Profiles
from racksack_controller.core.rack.rack import Bools, Floats
from racksack_controller.core.state import State


class Reading:
    """The state at `now` (Unix seconds), by what it is decided, and the reservation that the last pass made."""

    def __init__(
        self,
        state: State,
        now: float,
        policy: Policy = DEFAULT,
        power_policy: PowerPolicy = DEFAULT_POWER,
        reservation: Reservation | None = None,
    ) -> None:
        self.state = state
        self.now = now
        self.policy = policy
        self.power_policy = power_policy
        self.reservation = reservation
        self.profiles = Profiles()

    @cached_property
    def at_limit(self) -> Bools:
        """For each class that has jobs whether none of them may start, because so many others run."""
        queue, limits = self.state.queue, Limits(self.state.running, self.policy)
        return np.array(
            [limits.reached(queue.classes[index]) for index in queue.open_classes().tolist()], dtype=np.bool_
        )

    @cached_property
    def use(self) -> Floats:
        """What each owner in the queue has used of late, for fair share."""
        state = self.state
        return use_by_owner(state.queue, state.usage, state.turns, state.rack.total, self.now, self.policy)
