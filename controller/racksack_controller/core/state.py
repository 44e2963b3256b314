"""What is known: jobs, attempts and nodes, as frozen records in one owner.

`State` is changed by `apply` alone. It notes which records changed, so that a step is saved in one transaction.
Finished jobs leave memory once nothing of theirs is left on a node; the store keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from racksack_controller.core import lifecycle
from racksack_jobspecs.resources import Gpu, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import ACTIVE, FINAL, WAITING, JobState, NodeState


class Stop(msgspec.Struct, frozen=True):
    """A wish that an attempt ends. `requeue` means that the job is to run again afterwards."""

    reason: str  # cancelled | fenced
    sentence: str
    grace_s: float = 10.0
    signal: str = "TERM"
    requeue: bool = False
    sent: bool = False  # the node has it; forgotten when the connection is new


class Allocation(msgspec.Struct, frozen=True):
    """What an attempt holds on its node."""

    cpus: float
    ram_bytes: int
    gpus: tuple[str, ...] = ()  # uuids
    disk_bytes: int = 0


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

    @property
    def key(self) -> str:
        """`42.1`: how nodes and logs name it."""
        return f"{self.job}.{self.number}"


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


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One server."""

    name: str
    kind: str = "local"
    inventory: Inventory | None = None  # probed or configured; None until first seen
    reserve: ResourceRequest = ResourceRequest(cpus=0.0, ram_bytes=0)
    max_jobs: int | None = None
    labels: tuple[str, ...] = ()
    connected: bool = False
    connection_reason: str = "not connected yet"
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


class Changes(msgspec.Struct, frozen=True):
    """What a step has to save. `events` are (job id, node, time, sentence) lines of the story."""

    jobs: tuple[Job, ...]
    attempts: tuple[Attempt, ...]
    nodes: tuple[Node, ...]
    events: tuple[tuple[int | None, str | None, float, str], ...]

    def __bool__(self) -> bool:
        return bool(self.jobs or self.attempts or self.nodes or self.events)


class State:
    """All that is known. Read freely; change only through `apply`."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.attempts: dict[str, Attempt] = {}
        self.nodes: dict[str, Node] = {}
        self.orphans: dict[tuple[str, str], Orphan] = {}  # by (node, attempt)
        self.waiting: dict[int, None] = {}  # ids of queued jobs, in order of arrival
        self.dependents: dict[int, set[int]] = {}
        self._changed_jobs: dict[int, Job] = {}
        self._changed_attempts: dict[str, Attempt] = {}
        self._changed_nodes: dict[str, Node] = {}
        self._events: list[tuple[int | None, str | None, float, str]] = []

    def load(self, jobs: Iterable[Job], attempts: Iterable[Attempt], nodes: Iterable[Node]) -> None:
        """Take what the store has, without noting a change. Connections are not remembered."""
        for job in jobs:
            self.jobs[job.id] = job
            self._index(job)
        self.attempts.update((attempt.key, attempt) for attempt in attempts)
        for node in nodes:
            self.nodes[node.name] = msgspec.structs.replace(node, connected=False)

    def put_job(self, job: Job) -> None:
        """Store a job's new record; an illegal change of state raises IllegalTransitionError."""
        old = self.jobs.get(job.id)
        if old is not None and old.state is not job.state:
            lifecycle.check(lifecycle.JOB, old.state, job.state, f"job {job.id}")
        self.jobs[job.id] = self._changed_jobs[job.id] = job
        self._index(job)

    def put_attempt(self, attempt: Attempt) -> None:
        """Store an attempt's new record; an illegal change of state raises IllegalTransitionError."""
        old = self.attempts.get(attempt.key)
        if old is not None and old.state is not attempt.state:
            lifecycle.check(lifecycle.ATTEMPT, old.state, attempt.state, f"attempt {attempt.key}")
        self._changed_attempts[attempt.key] = attempt
        if attempt.removed and attempt.state in FINAL:
            self.attempts.pop(attempt.key, None)
        else:
            self.attempts[attempt.key] = attempt

    def put_node(self, node: Node) -> None:
        """Store a node's new record."""
        self.nodes[node.name] = self._changed_nodes[node.name] = node

    def tell(self, now_s: float, sentence: str, *, job: int | None = None, node: str | None = None) -> None:
        """Add a line to the story of a job or node."""
        self._events.append((job, node, now_s, sentence))

    def take_changes(self) -> Changes:
        """Everything that changed since the last call; finished jobs then leave memory."""
        changes = Changes(
            tuple(self._changed_jobs.values()),
            tuple(self._changed_attempts.values()),
            tuple(self._changed_nodes.values()),
            tuple(self._events),
        )
        for job in changes.jobs:
            if job.state in FINAL:
                self.jobs.pop(job.id, None)
        self._changed_jobs, self._changed_attempts, self._changed_nodes, self._events = {}, {}, {}, []
        return changes

    def current(self, job: Job) -> Attempt | None:
        """The attempt that the job is with now, or None."""
        return self.attempts.get(job.attempt_key) if job.state in ACTIVE else None

    def on_node(self, name: str) -> list[Attempt]:
        """The attempts that are with a node and not ended."""
        return [attempt for attempt in self.attempts.values() if attempt.node == name and attempt.state in ACTIVE]

    def node_state(self, node: Node) -> NodeState:
        """What a person is shown."""
        if not node.connected:
            return NodeState.UNREACHABLE
        if node.drain is None:
            return NodeState.UP
        return NodeState.DRAINING if self.on_node(node.name) else NodeState.DRAINED

    def _index(self, job: Job) -> None:
        if job.state is JobState.QUEUED:
            self.waiting.setdefault(job.id)
        else:
            self.waiting.pop(job.id, None)
        for other, _condition in job.waits_for if job.state in WAITING else ():
            self.dependents.setdefault(other, set()).add(job.id)
