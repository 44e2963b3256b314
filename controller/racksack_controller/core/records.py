"""What is known about one job, attempt or node: frozen records. `State` owns them, `apply` replaces them."""

from __future__ import annotations

import msgspec

from racksack_controller.core.report import LeftFile
from racksack_jobspecs.resources import Gpu, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState

GRACE_S = 10.0  # of jobs that were accepted before a grace was noted with them
NOT_CONNECTED_YET = "not connected yet"  # of a node that was never reached since the start


class Stop(msgspec.Struct, frozen=True):
    """A wish that an attempt ends. `requeue` means that the job is to run again afterwards."""

    reason: str  # cancelled | fenced
    sentence: str
    grace_s: float = GRACE_S
    signal: str = "TERM"
    warn_s: float = 0.0  # so long before the first signal the program is warned
    requeue: bool = False
    discard: bool = False  # what it wrote is not wanted
    sent: bool = False  # the node has it; forgotten when the connection is new
    for_job: int = 0  # the waiting job that it makes room for, if that is why
    of_gang: bool = False  # because another rank of its gang has ended, not for a reason of its own


class Allocation(msgspec.Struct, frozen=True):
    """What an attempt holds on its node."""

    cpus: float
    ram_bytes: int
    gpus: tuple[str, ...] = ()  # uuids
    disk_bytes: int = 0
    gpu_milli: int = 1000  # thousandths of each of these devices; below 1000 the device is shared


class Part(msgspec.Struct, frozen=True):
    """What a gang holds on one of its further nodes."""

    node: str
    allocation: Allocation


class Ending(msgspec.Struct, frozen=True):
    """How an attempt's program ended, as its node reported it."""

    outcome: JobState
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None
    prepare_s: float | None = None
    ram_peak_bytes: int | None = None
    cpu_s: float | None = None
    output_bytes: int = 0
    output_files: int = 0
    gpu_uuids: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    left: tuple[LeftFile, ...] = ()  # what stayed on the node, of many the first
    left_files: int = 0
    left_bytes: int = 0
    left_for_s: float | None = None  # how long the node keeps it
    at_fault: str = "job"  # job | node


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a program has saved: content by its digest, on a node or on the controller."""

    number: int  # of its attempt, from 1
    digest: str
    files: int
    bytes: int
    taken_at_s: float
    attempt: int  # which took it


class Pull(msgspec.Struct, frozen=True):
    """How far bringing the checkpoints of an attempt to the controller is."""

    newest: Checkpoint | None = None  # on the node
    brought: int = 0  # the number of the last one that is on the controller
    not_before_s: float = 0.0
    failures: int = 0  # in a row
    problem: str = ""  # why the node could not take one
    is_told: bool = False  # its owner was told of a problem

    @property
    def is_due(self) -> bool:
        """Whether the node has one that the controller has not."""
        return self.newest is not None and self.newest.number > self.brought


def attempt_key(job: int, number: int, rank: int = 0) -> str:
    """`42.1`, and `42.1@3` for rank 3 of a gang: how nodes, logs and folders name an attempt or a rank of it."""
    return f"{job}.{number}@{rank}" if rank else f"{job}.{number}"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a job on one node; of a gang: one rank of it. A gang's ranks share job and number."""

    job: int
    number: int
    node: str
    state: JobState
    allocation: Allocation
    placed_at_s: float
    epoch: str = ""  # of the controller's start in which it was placed: the fence against attempts of another store
    why: str = ""  # why this node
    launched: bool = False
    started_at_s: float | None = None
    ended_at_s: float | None = None
    ending: Ending | None = None
    stop: Stop | None = None
    failures: int = 0  # effects that failed in a row
    retry_at_s: float = 0.0
    problem: str = ""  # the sentence of the last failure, or what it waits for on its node
    removed: bool = False  # nothing of it is left on the node
    host: str = ""  # by what name or address other nodes reach this node
    port: int = 0  # of rank 0: where the ranks meet
    rank: int = 0
    ranks: int = 1  # how many the gang has
    prepared: bool = False  # of a rank: it could start, and waits for the go
    go_sent: bool = False  # the node has the go; forgotten when the connection is new
    collected: bool = False  # of a rank: its folder has arrived and waits for those of the others
    note: str = ""  # of a rank: what was left out when it was collected
    at_fault: str = "job"  # of a rank that is over: whose fault that was
    pull: Pull = Pull()  # of its checkpoints

    @property
    def key(self) -> str:
        """`42.1`, or `42.1@3`: how nodes and logs name it."""
        return attempt_key(self.job, self.number, self.rank)


class DataMount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A data set as attempts get it: content by its digest, or a path that lies on the node (`source`)."""

    name: str
    digest: str = ""
    source: str = ""
    path: str = ""  # where it appears in the project, too
    bytes: int = 0  # of the content; 0: not known


class Wait(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One dependency of a job: on another job, on a sweep, or on all elements of an array."""

    job: int  # its id; of an array that of its first element; 0 of a singleton
    condition: str = "ok"  # ok | any | notok, and singleton in `Job.after`
    whole: bool = False  # the whole array

    @property
    def target(self) -> tuple[int, bool]:
        """What it waits for, whatever the condition."""
        return self.job, self.whole


class Past(msgspec.Struct, frozen=True):
    """What the store knows of a job, an array or a sweep that is not in memory."""

    job: int
    whole: bool
    outcome: JobState | None  # of an array DONE only if all elements are; None: a sweep that is not over
    called: str = ""  # what a sentence calls the one that ended so


class Unsettled(msgspec.Struct, frozen=True):
    """What has ended, of whose dependents not all were judged yet."""

    past: Past
    drops: bool  # it is over; of an array that goes on only the first broken element is news
    judged_to: int = 0  # the id up to which they were judged


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One job: what was submitted and where it is."""

    id: int
    owner: str
    spec: JobSpec
    snapshot: str
    submitted_at_s: float
    state: JobState = JobState.QUEUED
    snapshot_bytes: int = 0  # 0: not known
    data: tuple[DataMount, ...] = ()
    array_id: int | None = None  # the id of the array's first job
    array_index: int | None = None
    attempt: int = 0  # the number of the current or latest attempt
    retries_used: int = 0
    preemptions: int = 0  # how often it has made room for others
    losses: int = 0  # attempts that ended through a node's fault
    avoid: tuple[str, ...] = ()  # nodes at fault, tried again only when no other fits
    not_before_s: float = 0.0
    key: str = ""  # random; tells it from a job of the same number in another store, or in one restored
    after: tuple[Wait, ...] = ()  # all that it depends on
    waits_for: tuple[Wait, ...] = ()  # what of that is still to come
    unsatisfiable: bool = False  # cancelled because a dependency can never be met
    reason: str = ""  # of the final state, or of being held
    ended_at_s: float | None = None
    fetched: bool = False
    checkpoints: tuple[Checkpoint, ...] = ()  # on the controller, the newest last: what its next attempt goes on from

    @property
    def attempt_key(self) -> str:
        """The key of the current or latest attempt (of a gang: of its rank 0)."""
        return attempt_key(self.id, self.attempt)


class Drain(msgspec.Struct, frozen=True):
    """An operator's wish that a node takes no more jobs."""

    reason: str
    since_s: float
    deadline_at_s: float | None = None  # jobs that are still there then are queued again
    then_off: bool = False  # whether the node is to be switched off once nothing of a job is left on it
    is_removed: bool = False  # no operator's wish: the node is not in the configuration
    before: Drain | None = None  # of a removed node: the drain that holds again when it comes back


class Overflow(msgspec.Struct, frozen=True):
    """Of a node that is used after all others: a cluster that has a queue of its own."""

    cost: float = 1.0  # a job goes there when it would wait longer here by so many times its own length
    time_limit_s: float = float("inf")  # no job may ask for more


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One server."""

    name: str
    kind: str = "local"
    inventory: Inventory | None = None  # probed or configured; None until first seen
    reserve: ResourceRequest = ResourceRequest(cpus=0.0, ram_bytes=0)
    max_jobs: int | None = None
    labels: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    address: str = ""  # by what name or address other nodes reach it; empty: by its own name
    connected: bool = False
    connection_reason: str = NOT_CONNECTED_YET
    connection_since_s: float = 0.0
    boot_id: str = ""
    drain: Drain | None = None
    failures: int = 0  # starts that failed through this node's fault, in a row
    cool_until_s: float = 0.0  # takes no jobs before
    overflow: Overflow | None = None  # None: it is one of the own servers

    @property
    def usable(self) -> bool:
        """Whether it may take jobs, its cooling time aside."""
        return self.connected and self.drain is None and self.inventory is not None

    @property
    def is_removed(self) -> bool:
        """Whether it is no longer in the configuration."""
        return self.drain is not None and self.drain.is_removed

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """Its devices that jobs may have."""
        return self.inventory.gpus if self.inventory else ()

    @property
    def all_gpus(self) -> tuple[Gpu, ...]:
        """Its devices, those that are set aside included."""
        return (*self.inventory.gpus, *self.inventory.set_aside) if self.inventory else ()


class Orphan(msgspec.Struct, frozen=True):
    """An attempt that a node has although it is not, or no longer, one of ours."""

    running: bool
    epoch: str = ""
    stop_sent: bool = False
    is_unreadable: bool = False  # no report will say that it has ended: once it was told to stop, it is removed
    failures: int = 0
    retry_at_s: float = 0.0
