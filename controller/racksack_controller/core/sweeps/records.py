"""What is known about one sweep: frozen records, saved with every step of it."""

from __future__ import annotations

import msgspec

from racksack_controller.core.records import DataMount, Wait
from racksack_controller.core.sweeps.ranges import Range
from racksack_jobspecs.bounds import Bytes, Name
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import SweepSpec, point_numbers
from racksack_jobspecs.sweep.states import SweepState

MAIN, CONTROL = 0, 1  # the runs of a sweep


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What was submitted; it never changes."""

    id: int
    owner: str
    spec: JobSpec
    snapshot: str
    submitted_at_s: float
    code: str  # a hash of the project's content, the target and all that every point gets
    points_total: int  # without those that `where` leaves out
    data: tuple[DataMount, ...] = ()
    waits_for: tuple[Wait, ...] = ()  # its runners start only afterwards
    key: str = ""  # random; see `Job.key`
    warm_from: int | None = None  # the earlier sweep whose points its search knows from the beginning

    @property
    def sweep(self) -> SweepSpec:
        """The sweep's part of the spec."""
        assert self.spec.sweep is not None  # noqa: S101 - what makes a job a sweep
        return self.spec.sweep

    @property
    def numbers(self) -> int:
        """Every point has a number below this one."""
        return point_numbers(self.sweep)


class Suspects(msgspec.Struct, frozen=True):
    """Points whose runner was lost with them, so many times."""

    ranges: tuple[Range, ...]
    losses: int


class InRam(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a node's memory for a sweep."""

    checksum: Name = ""
    size_bytes: Bytes = msgspec.field(default=0, name="bytes")


class NodeBackoff(msgspec.Struct, frozen=True):
    """A node gets no runner for a while, because one could not be prepared there."""

    reason: str
    failures: int  # in a row
    until_s: float


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sweep is. Points are counted in one run: those of the control run begin anew."""

    state: SweepState = SweepState.RUNNING
    reason: str = ""
    run: int = MAIN
    points: int = 0  # of this run
    done: int = 0
    failed: int = 0  # for good
    stopped: int = 0  # of `done`: stopped early
    reused: int = 0  # of `done`: taken from an earlier sweep of the same code
    pending: tuple[Range, ...] = ()  # with no runner, and not waiting for a retry
    suspects: tuple[Suspects, ...] = ()
    drawn: int = 0  # points whose parameters a search has drawn so far
    chunks: int = 0  # handed out so far, in all runs
    metrics: tuple[str, ...] = ()  # names that points have returned
    speeds: dict[str, float] = {}  # points a second of one slot, by node and by GPU model
    faults: int = 0  # runners that ended badly since the last result
    started_at_s: float | None = None  # the first chunk was handed out
    ready_at_s: float | None = None  # the workers of the first runner were up, or one had a result before that
    ended_at_s: float | None = None
    main_failed: int = 0  # of the main run, once the control run goes on
    in_ram: dict[str, InRam] = {}  # by node, as its latest runner told
    backoffs: dict[str, NodeBackoff] = {}  # by node, also those that are over, until a runner works there


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A lease: points that one attempt of a runner job has."""

    number: int
    run: int
    attempt: str
    node: str
    ranges: tuple[Range, ...]  # that have no outcome yet
    points: int  # as handed out
    handed_at_s: float
    losses: int = 0  # how often these points were with a runner that was lost


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A point that failed: for good, or until its retry."""

    point: int
    tries: int
    kind: str
    sentence: str
    seconds: float = 0.0
    node: str = ""
    at_s: float = 0.0
    retry_at_s: float | None = None  # None: for good
