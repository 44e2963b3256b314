"""What is known about one job, attempt or node: frozen records. `State` owns them, `apply` replaces them."""

from __future__ import annotations

import msgspec

from racksack_jobspecs.resources import Gpu, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState

NOT_CONNECTED_YET = "not connected yet"  # of a node that was never reached since the start


class Stop(msgspec.Struct, frozen=True):
    """A wish that an attempt ends. `requeue` means that the job is to run again afterwards."""

    reason: str  # cancelled | fenced
    sentence: str
    grace_s: float = 10.0
    signal: str = "TERM"
    requeue: bool = False
    discard: bool = False  # what it wrote is not wanted
    sent: bool = False  # the node has it; forgotten when the connection is new


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


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a job on one node."""

    job: int
    number: int
    node: str
    state: JobState
    allocation: Allocation
    placed_at_s: float
    why: str = ""  # why this node
    launched: bool = False
    started_at_s: float | None = None
    ended_at_s: float | None = None
    ending: Ending | None = None
    stop: Stop | None = None
    failures: int = 0  # effects that failed in a row
    retry_at_s: float = 0.0
    problem: str = ""  # the sentence of the last failure
    removed: bool = False  # nothing of it is left on the node
    rest: tuple[Part, ...] = ()  # of a gang: ranks 1, 2, ...; rank 0 is on `node`

    @property
    def key(self) -> str:
        """`42.1`: how nodes and logs name it."""
        return f"{self.job}.{self.number}"

    @property
    def parts(self) -> list[tuple[str, Allocation]]:
        """What it holds on which node; more than one for a gang."""
        return [(self.node, self.allocation), *((part.node, part.allocation) for part in self.rest)]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job: what was submitted and where it is."""

    id: int
    owner: str
    spec: JobSpec
    snapshot: str
    submitted_at_s: float
    state: JobState = JobState.QUEUED
    array_id: int | None = None  # the id of the array's first job
    array_index: int | None = None
    attempt: int = 0  # the number of the current or latest attempt
    retries_used: int = 0
    losses: int = 0  # attempts that ended through a node's fault
    avoid: tuple[str, ...] = ()  # nodes at fault, tried again only when no other fits
    not_before_s: float = 0.0
    waits_for: tuple[tuple[int, str], ...] = ()  # (job id, ok | any) still to come
    reason: str = ""  # of the final state, or of being held
    ended_at_s: float | None = None
    fetched: bool = False

    @property
    def attempt_key(self) -> str:
        """The key of the current or latest attempt."""
        return f"{self.id}.{self.attempt}"


class Drain(msgspec.Struct, frozen=True):
    """An operator's wish that a node takes no more jobs."""

    reason: str
    since_s: float
    deadline_at_s: float | None = None  # jobs that are still there then are queued again
    then_off: bool = False  # whether the node is to be switched off once nothing of a job is left on it


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One server."""

    name: str
    kind: str = "local"
    inventory: Inventory | None = None  # probed or configured; None until first seen
    reserve: ResourceRequest = ResourceRequest(cpus=0.0, ram_bytes=0)
    max_jobs: int | None = None
    labels: tuple[str, ...] = ()
    connected: bool = False
    connection_reason: str = NOT_CONNECTED_YET
    connection_since_s: float = 0.0
    boot_id: str = ""
    drain: Drain | None = None
    failures: int = 0  # starts that failed through this node's fault, in a row
    cool_until_s: float = 0.0  # takes no jobs before

    @property
    def usable(self) -> bool:
        """Whether it may take jobs, its cooling time aside."""
        return self.connected and self.drain is None and self.inventory is not None

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """Its devices."""
        return self.inventory.gpus if self.inventory else ()


class Orphan(msgspec.Struct, frozen=True):
    """An attempt that a node has although it is not, or no longer, one of ours."""

    running: bool
    stop_sent: bool = False
    failures: int = 0
    retry_at_s: float = 0.0
