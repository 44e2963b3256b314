"""The one interface to a node, and the values that pass through it. Times are Unix seconds, sizes bytes.

Every effect may be repeated: a launch, a stop, a stage or a remove that happens twice changes nothing the second time.
Errors are those of `errors.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from racksack_controller.core.report import AttemptReport
from racksack_controller.nodes.slurm_facts import SlurmFacts
from racksack_jobspecs.bounds import BYTES_MAX, TIME_S_MAX, Bytes, Count, Name, TimeS, cut, measured
from racksack_jobspecs.environments.plan import Plan
from racksack_jobspecs.resources import DISK_BYTES_MAX, GPUS_MAX, Gpu, Inventory, SetAsideGpu

ATTEMPTS_MAX = 20_000  # on one node


class GpuGrant(msgspec.Struct, frozen=True):
    """A device that an attempt may use."""

    uuid: str
    index: int
    vendor: str


class DataOrder(msgspec.Struct, frozen=True):
    """A data set of an attempt: content on the node by its digest, or a path there (`source`)."""

    name: str
    digest: str = ""
    source: str = ""
    path: str = ""  # in the project


class CheckpointOrder(msgspec.Struct, frozen=True):
    """What an attempt saves, and what it goes on from."""

    paths: tuple[str, ...]
    every_s: float
    digest: str = ""  # content on the node that is put in its place first; "": it starts from the beginning
    resubmit_on: tuple[int, ...] = ()  # exit codes that say that it has saved
    saves: bool = True  # of a gang rank 0 alone


class PulledCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint that has come from a node."""

    number: int
    digest: str
    files: int
    bytes: int
    taken_at_s: float


class LaunchOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a node needs to run one attempt."""

    attempt: str
    job_id: int
    epoch: str = ""  # of the controller's start in which it was placed; its reports bear it
    name: str
    node: str
    digest: str
    entrypoint: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}  # as environment variables, and masked in what it prints
    node_env: dict[str, str] = {}
    cpus: float = 1.0
    ram_bytes: int = 1024**3
    gpus: tuple[GpuGrant, ...] = ()
    time_limit_s: float | None = None
    environment: Plan = Plan(kind="plain")
    outputs: tuple[str, ...] = ()
    max_output_bytes: int = 10 * 1024**3
    shared: tuple[str, ...] = ()  # paths and patterns of the project that are linked, not copied
    stage_in_ram: tuple[str, ...] = ()
    data: tuple[DataOrder, ...] = ()
    sweep: dict[str, object] | None = None  # of a sweep's runner: its plan
    submitted_at_s: float = 0.0
    grace_s: float = 10.0
    warn_s: float | None = None
    warn_signal: str = "USR1"
    interactive: bool = False
    slurm_env: bool = False
    new_files: str = "small"
    keep_left_s: float = 86400.0
    keep_left_bytes: int = 20 * 1024**3
    checkpoint: CheckpointOrder | None = None
    slurm: dict[str, object] | None = None  # on a cluster: with what options it is submitted
    go_within_s: float | None = None  # once prepared it waits for the go, at most so long; None: it starts at once

    def __repr__(self) -> str:
        """Without the environments: they hold secrets, and this lands in logs."""
        return f"LaunchOrder({self.attempt!r}, {self.entrypoint!r}, digest={self.digest[:12]!r})"


class LaunchReply(msgspec.Struct, frozen=True):
    """What became of one order: taken, or refused with a sentence."""

    attempt: str
    ok: bool
    error: str | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        """Cut what is shown."""
        force_setattr(self, "kind", cut(self.kind, 40))
        if self.error is not None:
            force_setattr(self, "error", cut(self.error))


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says first. `session` is None where neither tmux nor screen is installed."""

    agent: str
    boot_id: str
    hostname: str
    python: str
    home: str
    session: str | None
    uv: str | None
    rsync: str | None
    clock_s: float
    up_s: float | None = None  # for how long the machine has been running
    reports: tuple[AttemptReport, ...] = ()
    contents: tuple[str, ...] = ()  # digests of what is there


class CollectReply(msgspec.Struct, frozen=True):
    """What became of collecting one attempt; `notes` says what was left out and why.

    `kind` of an error: gone (the node has no such attempt), disk_full (on the controller), unreachable, incomplete
    (what came is not what was reported), damaged (so twice: what the node has is not what was written), unsafe (names
    that lead out of the folder were sent), failed.
    """

    ok: bool
    files: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()
    error: str | None = None
    kind: str = ""


class Piece(msgspec.Struct, frozen=True):
    """A piece of a log, or of what a sweep's runner writes. `size_bytes` is the length of the whole so far."""

    data: bytes
    offset: int
    size_bytes: int


class BroughtLeft(msgspec.Struct, frozen=True):
    """What came of a request for files that had stayed on a node."""

    files: int
    bytes: int
    missing: tuple[str, ...]  # sentences, such as "*.pt: nothing matched"


class AttemptStats(msgspec.Struct, frozen=True):
    """What a running attempt uses now."""

    rss_bytes: Bytes
    cpu_s: TimeS


class GpuUse(msgspec.Struct, frozen=True):
    """What a device does now; None: its tool does not say."""

    uuid: Name
    use: float | None = None  # part of the time, 0 to 1
    used_bytes: int | None = None
    watts: float | None = None
    celsius: float | None = None

    def __post_init__(self) -> None:
        """Absurd figures are unknown."""
        bounds = {"use": (0, 1), "used_bytes": (0, BYTES_MAX), "watts": (0, 1e5), "celsius": (-100, 1000)}
        for name, (low, high) in bounds.items():
            force_setattr(self, name, measured(getattr(self, name), low, high))


class Devices(msgspec.Struct, frozen=True):
    """The GPUs of a node as the agent's last look found them."""

    gpus: Annotated[tuple[Gpu, ...], Meta(max_length=GPUS_MAX)] = ()  # those that jobs may have
    set_aside: Annotated[tuple[SetAsideGpu, ...], Meta(max_length=GPUS_MAX)] = ()
    problems: tuple[str, ...] = ()
    use: Annotated[tuple[GpuUse, ...], Meta(max_length=GPUS_MAX)] = ()


class NodeStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a node uses now."""

    load1: Annotated[float, Meta(ge=0, le=1e6)]
    ram_used_bytes: Bytes
    disk_free_bytes: Annotated[int, Meta(ge=0)]  # at most DISK_BYTES_MAX
    logins: Count = 0
    clock_s: float | None = None  # the node's own time when it answered
    uv: bool = True  # whether it has a uv that can be used
    attempts: Annotated[dict[Name, AttemptStats], Meta(max_length=ATTEMPTS_MAX)] = {}
    gpus: Devices | None = None

    def __post_init__(self) -> None:
        """Clean what may honestly be strange: a clock that is far off, a file system that claims to be endless."""
        force_setattr(self, "disk_free_bytes", min(self.disk_free_bytes, DISK_BYTES_MAX))
        force_setattr(self, "clock_s", measured(self.clock_s, 0, TIME_S_MAX))


class Sent(msgspec.Struct, frozen=True):
    """A transfer to a node that has ended."""

    size_bytes: int
    seconds: float


class Node(Protocol):
    """One machine that runs attempts."""

    name: str
    on_report: Callable[[AttemptReport], None]  # called when an attempt changes state
    on_disconnect: Callable[[str], None]  # called once per connection that breaks, with a sentence
    on_results: Callable[[str, int], None]  # called when an attempt's sweep results have grown, with their length

    async def connect(self) -> Hello:
        """Reach the node and start its agent. Raises NodeUnreachable, HostKeyChanged, NodeUnusable."""

    async def close(self) -> None:
        """End the agent and the connection; jobs go on."""

    async def probe(self) -> Inventory:
        """Look at the node's CPUs, memory, disk and GPUs."""

    async def stage(self, digest: str, source: Path) -> Sent | None:
        """Bring the content `source` to the node, unless it is there; what was sent, None for little and nothing.

        Raises TransferFailed too.
        """

    async def share_port(self, port: int, wanted: int) -> int:
        """See Transport: which port of the node leads to this one of the controller, until the connection ends."""

    async def has(self, digests: Sequence[str]) -> list[str]:
        """Which of these contents are on the node. Raises NodeError."""

    async def launch(self, orders: Sequence[LaunchOrder]) -> list[LaunchReply]:
        """Start attempts, a reply for each order in turn."""

    async def go(self, attempts: Sequence[str]) -> None:
        """Let attempts start that were launched with `go_within_s`; that they run comes as a report."""

    async def stop(self, attempt: str, reason: str, grace_s: float, signal: str = "TERM", warn_s: float = 0.0) -> None:
        """End an attempt; the end itself comes as a report. reason: cancelled, timeout, fenced. `warn_s`: so long
        before the first signal its program is warned.
        """

    async def signal(self, attempt: str, name: str) -> None:
        """Send a signal to the program of a running attempt, and to nothing else. Raises AgentError when none runs."""

    async def reports(self) -> list[AttemptReport]:
        """The state of every attempt that the node has a folder of."""

    async def collect(self, attempts: Mapping[str, Path]) -> dict[str, CollectReply]:
        """Pull each attempt's out/ into its own empty folder. Every failure is a reply, none an exception.

        After a failure the folder may hold what came so far; collecting into the same folder again resumes.
        """

    async def bring_left(self, attempt: str, patterns: Sequence[str], target: Path) -> BroughtLeft:
        """Pull what an attempt left on the node and matches the patterns into the empty folder `target`.

        Raises AgentError when nothing of it is there any more, TransferFailed.
        """

    async def pull_checkpoint(self, attempt: str, target: Path, alike: Sequence[Path] = ()) -> PulledCheckpoint:
        """Pull the newest checkpoint of an attempt into the folder `target`; what an earlier try brought may be there.

        alike: folders that may hold the same files already; these are linked. What came has the digest that is
        returned. Raises AgentError when the node has none, TransferFailed, NodeError.
        """

    async def remove(self, attempts: Sequence[str]) -> None:
        """Remove attempts from the node. Raises AgentError for one that still runs."""

    async def tail(self, attempt: str, stream: str, offset: int, limit: int) -> Piece:
        """Up to `limit` bytes of stdout, stderr or env from `offset`; a negative offset counts from the end."""

    async def attach(self, attempt: str, way: str) -> list[str]:
        """What to run on the controller's machine to use a running attempt's terminal.

        way: `session`, `view` to only see it (empty where the node cannot do that), or `shell` for a shell beside it.
        """

    async def stats(self) -> NodeStats:
        """What the node uses now."""

    async def slurm(self) -> SlurmFacts:
        """What is to be known of the cluster whose login node this is. Raises AgentError where there is none."""

    async def feed(self, attempt: str, chunks: Sequence[Mapping[str, object]]) -> None:
        """Give a sweep's runner chunks of points; one that it had already changes nothing. Raises AgentError."""

    async def control(
        self, attempt: str, *, finish: bool, back: Sequence[int], verdicts: Sequence[tuple[int, int, bool]] = ()
    ) -> None:
        """Tell a sweep's runner to end after its chunks, and of which chunks to give unstarted points back."""

    async def results(self, attempt: str, offset: int, limit: int) -> Piece:
        """Up to `limit` bytes of what a sweep's runner has written, from `offset`. Raises AgentError."""


__all__ = [
    "AttemptReport",
    "AttemptStats",
    "BroughtLeft",
    "CollectReply",
    "GpuGrant",
    "Hello",
    "Inventory",
    "LaunchOrder",
    "LaunchReply",
    "Node",
    "NodeStats",
    "Piece",
    "PulledCheckpoint",
    "Sent",
]
