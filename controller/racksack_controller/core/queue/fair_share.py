"""Fair share: what each owner has used of late.

Use is a vector of CPU, memory and GPU time that counts half as much after a half-life, as in Slurm's fair share. The
number that owners are compared by is their dominant share (Ghodsi et al., "Dominant resource fairness", NSDI 2011): of
the resource of which they used the largest part of the rack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

HALF_LIFE_S = 7 * 86400.0
LEAST = 1e-5  # of the rack over the half-lives, some seconds of all of it: less counts as nothing
STEP = 0.04  # uses that differ by less than this part of themselves count as equal, so that age decides

Amounts = tuple[float, float, float]
NOTHING: Amounts = (0.0, 0.0, 0.0)


class OwnerUse(msgspec.Struct, frozen=True):
    """Decayed CPU, memory and GPU time (in the rack's units times seconds), as it was at `at_s`."""

    owner: str
    used: Amounts
    at_s: float


class Usage:
    """What everybody used, and what everybody holds now."""

    def __init__(self, records: Iterable[OwnerUse] = (), half_life_s: float = HALF_LIFE_S) -> None:
        self.half_life_s = half_life_s
        self.records = {record.owner: record for record in records}
        self._held: dict[str, Amounts] = {}

    def undo_of(self, owner: str) -> Callable[[], None]:
        """What takes the next change of an owner back."""
        record, held = self.records.get(owner), self._held.get(owner)

        def undo() -> None:
            if record is not None:
                self.records[owner] = record
            else:
                self.records.pop(owner, None)
            if held is not None:
                self._held[owner] = held
            else:
                self._held.pop(owner, None)

        return undo

    def change(self, owner: str, taken: Amounts, now: float) -> OwnerUse:
        """An owner holds so much more (or less) from now on; the record to save."""
        settled = OwnerUse(owner, self.used(owner, now), now)
        self.records[owner] = settled
        held = self._held.get(owner, NOTHING)
        self._held[owner] = (held[0] + taken[0], held[1] + taken[1], held[2] + taken[2])
        return settled

    def used(self, owner: str, now: float) -> Amounts:
        """The decayed use at `now`: what was, and the integral of what is held since."""
        record = self.records.get(owner)
        if record is None:
            return NOTHING
        elapsed = max(0.0, now - record.at_s)
        kept = 0.5 ** (elapsed / self.half_life_s)
        added = (1.0 - kept) * self.half_life_s / math.log(2.0)
        held = self._held.get(owner, NOTHING)
        return (
            record.used[0] * kept + held[0] * added,
            record.used[1] * kept + held[1] * added,
            record.used[2] * kept + held[2] * added,
        )

    def relative(self, owner: str, now: float, total: NDArray[np.int64], shares: dict[str, float]) -> float:
        """The owner's dominant share of the rack over the last half-lives, divided by his share."""
        capacity = total[:3].sum(axis=1) * (self.half_life_s / math.log(2.0))
        parts = [use / float(all_) for use, all_ in zip(self.used(owner, now), capacity, strict=True) if all_ > 0]
        return max(parts, default=0.0) / shares.get(owner, 1.0)


def level(relative: float) -> float:
    """What owners are compared by: the logarithm of their use in steps, so that small uses differ as large ones do."""
    return float(round(math.log1p(relative / LEAST) / STEP))
