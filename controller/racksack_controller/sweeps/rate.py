"""How fast sweeps really go: points a second by the clock, over the last half minute."""

from __future__ import annotations

from collections import deque

from racksack_controller.core.sweeps.records import Progress

WINDOW_S = 30.0
EVERY_S = 0.5
LEAST_S = 1.5  # less than this tells nothing


class Paces:
    """What was seen of the sweeps that are not over; of each a minute at most."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[float, int, int]]] = {}

    def saw(self, sweep: int, progress: Progress, now: float) -> None:
        """A sweep has got this far at a time (Unix seconds)."""
        if progress.ended_at_s is not None:
            self._seen.pop(sweep, None)
            return
        seen = self._seen.setdefault(sweep, deque())
        settled = progress.done + progress.failed
        if seen and (seen[-1][1] != progress.run or settled < seen[-1][2]):
            seen.clear()  # another run, or points were taken back for a retry
        if not seen or now - seen[-1][0] >= EVERY_S:
            seen.append((now, progress.run, settled))
        while now - seen[0][0] > WINDOW_S and len(seen) > 2:
            seen.popleft()

    def of(self, sweep: int, progress: Progress, now: float) -> float | None:
        """Points a second; None where it cannot be told yet."""
        seen = self._seen.get(sweep)
        if not seen or seen[-1][1] != progress.run:
            return None
        began_s, _, before = seen[0]
        took_s = now - began_s
        gained = progress.done + progress.failed - before
        return gained / took_s if took_s >= LEAST_S and gained > 0 else None
