"""Which content is on which node, and how fast content gets there. Only ever a guess: a node may have let content go.

It is learnt from nodes as they connect, from launches and from transfers, and is forgotten with the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from racksack_controller.core.journal import Journal

RATE_BYTES_S = 50e6  # of a node to which nothing was sent yet
KEPT_MAX = 20_000  # digests of one node
NEWEST_SHARE = 0.5  # of the rate: what the latest transfer counts beside all earlier ones


class Contents:
    """By node: digests, and the rate of the link in bytes a second."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._on: dict[str, frozenset[str]] = {}
        self._rates: dict[str, float] = {}

    def set(self, node: str, digests: Iterable[str]) -> None:
        """What a node has, as it says."""
        self._journal.assign(self._on, node, frozenset(digests))

    def add(self, node: str, digests: Iterable[str]) -> None:
        """It has these, too."""
        known = self._on.get(node, frozenset())
        more = known.union(digests)
        if len(more) > KEPT_MAX:
            more = frozenset(digests)
        if more != known:
            self._journal.assign(self._on, node, more)

    def note_rate(self, node: str, size_bytes: int, seconds: float) -> None:
        """A transfer to a node took so long."""
        rate = size_bytes / max(seconds, 1e-3)
        before = self._rates.get(node, rate)
        self._journal.assign(self._rates, node, before + NEWEST_SHARE * (rate - before))

    def missing_bytes(self, node: str, wanted: Mapping[str, int]) -> int:
        """How much of what is wanted (bytes by digest) would have to be sent to a node."""
        has = self._on.get(node, frozenset())
        return sum(size for digest, size in wanted.items() if digest not in has)

    def transfer_s(self, node: str, wanted: Mapping[str, int]) -> float:
        """How long sending that is expected to take."""
        return self.missing_bytes(node, wanted) / self._rates.get(node, RATE_BYTES_S)
