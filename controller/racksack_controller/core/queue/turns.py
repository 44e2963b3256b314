"""How far fair share may go: it decides over at most half of the rack, so that age wins in the end.

An order by use alone lets jobs of busy owners wait for ever while others keep coming. So what runs is told apart: jobs
that fair share let pass an older one, and jobs whose turn it was anyway. While the former have not had more of the rack
than the latter, use decides; then age does, until the latter are ahead again. A job therefore waits about twice as long
as in the order of arrival at most, plus the head start: a rack on which nobody was passed for a while has some hours of
itself to give, so that a few light users are never held up behind one who has filled the queue.
"""

from __future__ import annotations

from collections.abc import Callable

HEAD_START_S = 4 * 3600.0  # of the whole rack, for those who pass others
BACK_AT = 0.25  # use decides again once this part of the head start has been earned back


class Turns:
    """Seconds of the whole rack that jobs have had by passing others, less what went to jobs in their turn."""

    def __init__(self) -> None:
        self.by_use = True  # whether use decides at present, or age
        self._passed_s = -HEAD_START_S
        self._rate = 0.0  # parts of the rack that are held by passing, less those that are held in turn
        self._at_s = 0.0
        self._parts: dict[str, float] = {}  # by attempt; negative: it was its turn

    def undo_of(self, attempt: str) -> Callable[[], None]:
        """What takes the next change of an attempt back."""
        before = (self.by_use, self._passed_s, self._rate, self._at_s)
        part = self._parts.get(attempt)

        def undo() -> None:
            self.by_use, self._passed_s, self._rate, self._at_s = before
            if part is None:
                self._parts.pop(attempt, None)
            else:
                self._parts[attempt] = part

        return undo

    def begin(self, attempt: str, part: float, now: float, *, passes: bool) -> None:
        """An attempt holds `part` (0 to 1) of the rack from now on. `passes`: an older job waits meanwhile."""
        self.advance(now)
        self._parts[attempt] = part if passes else -part
        self._rate += self._parts[attempt]

    def end(self, attempt: str, now: float) -> None:
        """It holds nothing any more."""
        self.advance(now)
        self._rate -= self._parts.pop(attempt, 0.0)
        if not self._parts:
            self._rate = 0.0  # sums of fractions drift

    def advance(self, now: float) -> None:
        """Count up to `now` (Unix seconds)."""
        elapsed_s = max(0.0, now - self._at_s)
        self._at_s = max(now, self._at_s)
        self._passed_s = min(HEAD_START_S, max(-HEAD_START_S, self._passed_s + self._rate * elapsed_s))
        if self._passed_s >= 0.0:
            self.by_use = False
        elif self._passed_s <= -BACK_AT * HEAD_START_S:
            self.by_use = True
