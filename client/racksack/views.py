"""What the controller tells about jobs and nodes, as values. Fields a newer controller adds are ignored."""

from __future__ import annotations

from typing import Any

import msgspec

from racksack_jobspecs.states import FINAL, JobState

FINAL_STATES = frozenset(str(state) for state in FINAL)


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as lists show it."""

    id: int
    name: str
    owner: str | int = ""
    state: str = JobState.QUEUED.value
    node: str | None = None
    attempt: int | str | None = None
    cpus: float = 0
    ram_bytes: int = 0
    gpus: Any = None
    priority: int = 0
    submitted_at_s: float | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None
    why: str | None = None
    outcome_reason: str | None = None
    exit_code: int | None = None
    ram_peak_bytes: int | None = None
    cpu_s: float | None = None
    fetched: bool = False
    output_bytes: int | None = None
    project: str | None = None
    entrypoint: str | None = None
    snapshot: str | None = None
    array_index: int | None = None
    returns: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL_STATES


class JobDetails(JobView, frozen=True, kw_only=True):
    """A job with its whole story."""

    spec: dict[str, Any] = {}
    attempts: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    result: dict[str, Any] | None = None


class Used(msgspec.Struct, frozen=True):
    """How much of something is taken."""

    used: float = 0
    total: float = 0


class GpuView(msgspec.Struct, frozen=True):
    """One GPU of a node."""

    index: int
    model: str = ""
    vram_bytes: int = 0
    job: int | None = None


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node as lists show it."""

    name: str
    kind: str = ""
    state: str = ""
    why: str | None = None
    cpus: Used = Used()
    ram_bytes: Used = Used()
    gpus: list[GpuView] = []
    jobs: list[int] = []
    max_jobs: int | None = None
    labels: list[str] = []
    draining_reason: str | None = None
    connected_at_s: float | None = None
    load1: float | None = None
    disk_free_bytes: int | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Waiting, active and recently finished jobs, and all nodes."""

    controller: dict[str, Any] = {}
    jobs: list[JobView] = []
    nodes: list[NodeView] = []


class Why(msgspec.Struct, frozen=True):
    """Why a job or node is as it is."""

    sentence: str
    details: Any = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to a job file."""

    problems: list[Any] = []
    spec: dict[str, Any] | None = None
    never: str | None = None
    fits: list[str] = []
    waits: str | None = None
    advice: list[str] = []  # what it could ask for instead


class JobUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's latest attempt used of what it asked for; None: not known, or not yet."""

    job: int
    name: str = ""
    owner: str = ""
    entrypoint: str = ""
    state: str = ""
    node: str | None = None
    attempt: int = 0
    exit_code: int | None = None
    cpus: float = 0
    ram_bytes: int = 0
    gpus: str = ""
    time_limit_s: float | None = None
    waited_s: float = 0
    wall_s: float | None = None
    cpu_s: float | None = None
    ram_peak_bytes: int | None = None
    cpu_efficiency: float | None = None
    ram_efficiency: float | None = None
    time_efficiency: float | None = None
    advice: list[str] = []


class ProgramUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the runs of one owner's program."""

    owner: str = ""
    name: str = ""
    entrypoint: str = ""
    runs: int = 0
    failed: int = 0
    wall_s: float = 0
    cpu_hours_asked: float = 0
    cpu_hours_used: float = 0
    gpu_hours: float = 0
    ram_bytes: int = 0
    ram_peak_bytes: int = 0
    advice: list[str] = []


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a submission."""

    jobs: list[int] = []
    error: str | None = None


class Attach(msgspec.Struct, frozen=True, kw_only=True):
    """How to get into a running job: an argv for the controller's machine, and what to press to leave."""

    argv: list[str]
    hint: str = ""
