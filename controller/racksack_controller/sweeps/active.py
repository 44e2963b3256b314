"""One sweep that is not over, in memory: what waits, who has what, and what failed.

It says the same as the ledger; whenever a write fails it is thrown away and loaded again. Its size depends on how many
chunks are out and how many points have failed, not on how many points there are.
"""

from __future__ import annotations

import asyncio
import heapq
import sqlite3
from dataclasses import dataclass, field

from msgspec.structs import replace

from racksack_controller.core.records import Attempt, Job
from racksack_controller.core.sweeps import backoff
from racksack_controller.core.sweeps.ranges import Ranges
from racksack_controller.core.sweeps.records import Chunk, Failure, Progress, Suspects, Sweep
from racksack_controller.core.sweeps.stopping import Rungs
from racksack_controller.sweeps.results import ledger, reports
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_controller.sweeps.search.protocol import Outcome
from racksack_jobspecs.resources import ResourceRequest
from racksack_jobspecs.sweep.spec import SweepSpec


@dataclass
class Lease:
    """Points that a runner has."""

    chunk: Chunk
    left: Ranges
    is_fed: bool = False  # over the present connection
    is_asked_back: bool = False
    has_given_back: bool = False

    def may_give_back(self, slots: int) -> bool:
        """Whether points of it that were not begun may still come back."""
        return not self.has_given_back and (self.is_asked_back or self.left.size > slots)

    def record(self) -> Chunk:
        """As it is saved."""
        return replace(self.chunk, ranges=self.left.pairs())


@dataclass(frozen=True)
class Ended:
    """A runner job that is over, with how its last attempt ended on its node; None where it never had one."""

    job: Job
    attempt: Attempt | None

    @property
    def is_node_at_fault(self) -> bool:
        """Whether another node may do better."""
        ending = self.attempt.ending if self.attempt is not None else None
        return ending is not None and ending.at_fault == "node"


Control = tuple[bool, tuple[int, ...], tuple[tuple[int, int, bool], ...]]  # finish, back, verdicts


@dataclass
class RunnerAttempt:
    """One attempt of a runner job that may tell results."""

    attempt: str
    node: str
    names: tuple[str, ...]  # under which its speed is known
    position: int = 0  # results are stored up to here
    buffer: bytes = b""  # bytes behind it that are no whole frame yet
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_ready: bool = False
    heard_s: float = 0.0
    is_drained: bool = False  # it has ended and all that it wrote is stored
    is_refused: bool = False  # it has sent nonsense
    is_told_to_yield: bool = False
    finish: bool = False
    told: Control | None = None  # the control that it has over the present connection
    verdicts: dict[int, tuple[int, bool]] = field(default_factory=dict)  # by point: rungs judged, whether it stops
    following: asyncio.Task[None] | None = None
    pulling: asyncio.Lock = field(default_factory=asyncio.Lock)


class Active:
    """The memory of one sweep. Whoever changes it holds `lock` from reading it until the change is saved."""

    def __init__(self, sweep: Sweep, progress: Progress) -> None:
        self.sweep = sweep
        self.progress = progress
        self.lock = asyncio.Lock()
        self.pending = Ranges(progress.pending)
        self.suspects: list[tuple[Ranges, int]] = [(Ranges(one.ranges), one.losses) for one in progress.suspects]
        self.leases: dict[int, Lease] = {}
        self.runners: dict[str, RunnerAttempt] = {}
        self.rungs = _rungs(sweep.sweep)
        self.tries: dict[int, int] = {}  # of points that failed before and have no outcome yet
        self._retries: list[tuple[float, int]] = []  # (when, point)
        self.outcomes: list[Outcome] = []  # what an adaptive search has not been told yet
        self.was_ready = False  # a runner's workers have come up since the controller's start
        self.preparing: frozenset[str] = frozenset()  # nodes on which a runner of it is being prepared
        self.is_stale = False  # a write failed: load it again

    @property
    def id(self) -> int:
        """Of the sweep."""
        return self.sweep.id

    @property
    def spec(self) -> SweepSpec:
        """What is computed."""
        return self.sweep.sweep

    def slots_on(self, node: str) -> int:
        """Workers of one runner on a node."""
        return slots_of(self.spec, self.sweep.spec.resources, node)

    @property
    def slots(self) -> int:
        """Workers of one runner on a node that nothing else is said of."""
        return slots_of(self.spec, self.sweep.spec.resources)

    @property
    def is_sampled(self) -> bool:
        """Whether the parameters of its points were drawn and stored."""
        return is_drawn(self.spec)

    @property
    def is_given(self) -> bool:
        """Whether the parameters of its points travel with their chunk."""
        return self.is_sampled or bool(self.spec.scripts) or any(axis.only_if for axis in self.spec.axes)

    @property
    def waiting(self) -> int:
        """How many points could be handed out now."""
        return self.pending.size + sum(ranges.size for ranges, _ in self.suspects)

    @property
    def to_draw(self) -> int:
        """How many points are still to be drawn by a search."""
        return self.sweep.points_total - self.progress.drawn if self.is_sampled else 0

    @property
    def is_complete(self) -> bool:
        """Whether every point of this run has an outcome."""
        return not (self.waiting or self.leases or self._retries or self.to_draw)

    def leases_of(self, attempt: str) -> list[Lease]:
        """What one runner has."""
        return [lease for lease in self.leases.values() if lease.chunk.attempt == attempt]

    @property
    def uses_ram(self) -> bool:
        """Whether its runners read paths of the project from memory."""
        return bool(self.spec.ramdisk or self.sweep.spec.stage_in_ram)

    def wakes_at_s(self, now: float) -> list[float]:
        """When something is due by itself (Unix times): a retry, the end of a node's backoff."""
        found = [self.next_retry_s(), backoff.next_end_s(self.progress.backoffs, now)]
        return [at_s for at_s in found if at_s is not None]

    # Retries

    def retry_later(self, failure: Failure) -> None:
        """A point failed and is tried again."""
        assert failure.retry_at_s is not None  # noqa: S101 - else it is no retry
        self.tries[failure.point] = failure.tries
        heapq.heappush(self._retries, (failure.retry_at_s, failure.point))

    def next_retry_s(self) -> float | None:
        """When the next one is due (Unix time)."""
        return self._retries[0][0] if self._retries else None

    def retries_before(self, until_s: float) -> int:
        """How many are due before a time."""
        return sum(1 for at_s, _ in self._retries if at_s <= until_s)

    def take_due(self, now: float) -> bool:
        """Put due retries among the points that wait; whether there were any."""
        found = False
        while self._retries and self._retries[0][0] <= now:
            _, point = heapq.heappop(self._retries)
            self.pending.add(point, point + 1)
            found = True
        return found

    def begin_run(self) -> None:
        """The rungs of the run that begins are empty."""
        self.rungs = _rungs(self.spec)

    # Records

    def snapshot(self, **changes: object) -> Progress:
        """The progress as it is to be saved, and is from now on."""
        suspects = tuple(Suspects(ranges.pairs(), losses) for ranges, losses in self.suspects if ranges)
        self.progress = replace(self.progress, pending=self.pending.pairs(), suspects=suspects, **changes)
        return self.progress


def _rungs(spec: SweepSpec) -> Rungs | None:
    """Nothing where no point is stopped early."""
    return None if spec.stop is None else Rungs(spec.stop, is_max=spec.metrics[0].direction == "max")


def slots_of(spec: SweepSpec, resources: ResourceRequest, node: str = "") -> int:
    """Workers of one runner: as asked for (on that node), else one for each GPU, else one for each core."""
    if node in spec.slots_on:
        return spec.slots_on[node]
    if spec.slots is not None:
        return spec.slots
    if resources.gpus is not None:
        return max(1, int(resources.gpus.count))
    return max(1, int(resources.cpus))


def load(connection: sqlite3.Connection, sweep: Sweep, progress: Progress) -> Active:
    """A sweep as the ledger has it."""
    active = Active(sweep, progress)
    for chunk in ledger.chunks_of(connection, sweep.id):
        active.leases[chunk.number] = Lease(chunk, Ranges(chunk.ranges))
    if active.rungs is not None:
        active.rungs.restore(reports.verdicts_of(connection, sweep.id, progress.run))
    for failure in ledger.failures_of(connection, sweep.id, progress.run, waiting=True):
        active.tries[failure.point] = failure.tries
        is_with_a_runner = any(failure.point in lease.left for lease in active.leases.values())
        if not is_with_a_runner and failure.point not in active.pending:
            active.retry_later(failure)
    return active
