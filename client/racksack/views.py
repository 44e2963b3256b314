"""What the controller tells about jobs and nodes, as values. Fields a newer controller adds are ignored."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from racksack_jobspecs.states import FINAL, JobState

FINAL_STATES = frozenset(str(state) for state in FINAL)


State = Annotated[str, msgspec.Meta(pattern=r"^(?:[A-Za-z][A-Za-z_ -]{0,60})?\Z")]  # it is printed as it is


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as lists show it."""

    id: int
    key: str = ""  # random; with the epoch and the attempt's number it says whose a return folder is
    epoch: str = ""  # of the attempt
    name: str
    owner: str | int = ""
    state: State = JobState.QUEUED.value
    node: str | None = None  # of a gang all of them, rank 0's first: "r1,r2"
    gang: int = 1
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
    output_files: int | None = None
    project: str | None = None
    entrypoint: str | None = None
    snapshot: str | None = None
    array_id: int | None = None  # the id of the array's first element
    array_index: int | None = None
    after: list[str] = []  # what it depends on: "afterok:41", "afterany:15[3]", "singleton"
    waits_for: list[str] = []  # what of that is still to come
    returns: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL_STATES

    @property
    def has_results(self) -> bool:
        """Whether it has ended and anything of it can be fetched; a job cancelled before it began has nothing."""
        never_began = self.state == JobState.CANCELLED and not self.attempt and self.started_at_s is None
        return self.is_final and not never_began


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """What something used; None where nothing was metered. An estimate where no sensor measured it."""

    kwh: float | None = None
    is_estimate: bool | None = None
    cost: float | None = None


class JobDetails(JobView, frozen=True, kw_only=True):
    """A job with its whole story."""

    spec: dict[str, Any] = {}
    attempts: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    outputs: dict[str, Any] | None = None  # what did not come back, see `not_brought`
    checkpoint: dict[str, Any] | None = None  # the newest: `number`, `attempt`, `bytes`, `taken_at_s`, ...
    energy: Energy | None = None
    results_deleted: bool = False  # by `fetch-results --delete-after`; also the logs are gone then


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


class PowerView(msgspec.Struct, frozen=True, kw_only=True):
    """The power of a node. None in place of a figure: not known, or not the case."""

    phase: str = ""
    since_s: float = 0.0
    why: str = ""
    way: str = ""
    watts: float | None = None
    watts_from: str | None = None  # sensor | config | model
    idle_for_s: float | None = None
    off_in_s: float | None = None
    last_boot_s: float | None = None
    boot_mean_s: float | None = None
    boots: int = 0
    last_off_s: float | None = None
    failures: int = 0
    problem: str = ""
    retry_in_s: float | None = None
    held_by: str | None = None
    held_for_s: float | None = None
    wish: str = ""  # what an operator asked for that is still to be done: on | off | cycle
    on_behind: list[str] = []  # nodes that are reached through this one and are on: it goes off after them
    logins: int = 0
    switches_off: bool = True


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node as lists show it."""

    name: str
    kind: str = ""
    state: State = ""
    why: str | None = None
    cpus: Used = Used()
    ram_bytes: Used = Used()
    gpus: list[GpuView] = []
    gpus_set_aside: list[GpuView] = []  # no job gets these
    jobs: list[int] = []
    max_jobs: int | None = None
    labels: list[str] = []
    draining_reason: str | None = None
    drain_deadline_at_s: float | None = None
    then_off: bool = False
    connected_at_s: float | None = None
    load1: float | None = None
    disk_free_bytes: int | None = None
    power: PowerView | None = None  # None: it is always on

    @property
    def reasons(self) -> str:
        """Why it is in its state, and why it was drained: a drained node may be unreachable as well."""
        drained = self.draining_reason if (self.draining_reason or "") not in (self.why or "") else ""
        return "; ".join(part for part in (self.why, drained) if part)

    @property
    def gpus_text(self) -> str:
        """How many of its devices are in use, and of how many: `1/7`, or `1/7-1` with one that is set aside."""
        if not self.gpus and not self.gpus_set_aside:
            return "-"
        busy = sum(gpu.job is not None for gpu in self.gpus)
        return f"{busy}/{len(self.gpus)}" + (f"-{len(self.gpus_set_aside)}" if self.gpus_set_aside else "")


class NodeEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """What a node drew in a time, and what it would have drawn had it never been off."""

    node: str = ""
    kwh: float = 0.0
    idle_kwh: float = 0.0
    jobs_kwh: float = 0.0
    measured_kwh: float = 0.0
    is_estimate: bool = False
    always_on_kwh: float = 0.0
    saved_kwh: float = 0.0
    on_s: float = 0.0
    known_s: float = 0.0
    cost: float | None = None
    saved_cost: float | None = None


class JobEnergy(Energy, frozen=True, kw_only=True):
    """What a job used."""

    job: int
    name: str = ""
    owner: str | int = ""


class EnergyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The energy of nodes and jobs since a moment."""

    since_s: float = 0.0
    until_s: float = 0.0
    price_per_kwh: float | None = None
    nodes: list[NodeEnergy] = []
    jobs: list[JobEnergy] = []
    total: NodeEnergy = NodeEnergy()


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Waiting, active and recently finished jobs, and all nodes."""

    controller: dict[str, Any] = {}
    jobs: list[JobView] = []
    jobs_total: int = 0  # that are not over; `jobs` may have fewer
    nodes: list[NodeView] = []


class Why(msgspec.Struct, frozen=True):
    """Why a job or node is as it is."""

    sentence: str
    details: Any = None


class SweepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep would be. None: nothing tells before the first points are done."""

    points: int
    factors: list[int] = []
    left_out: int = 0
    runners: int = 0
    workers: int = 0
    chunks: int | None = None
    duration_s: float | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to a job file."""

    problems: list[Any] = []
    spec: dict[str, Any] | None = None
    never: str | None = None
    fits: list[str] = []
    waits: str | None = None
    advice: list[str] = []  # what it could ask for instead
    transfers: list[str] = []  # what would have to be sent first, by node
    sweep: SweepPlan | None = None  # of a job file with a sweep


class JobUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's latest attempt used of what it asked for; None: not known, or not yet."""

    job: int
    name: str = ""
    owner: str = ""
    entrypoint: str = ""
    state: State = ""
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
    sweep: int | None = None
    recurring: int | None = None
    error: str | None = None


class RecurringView(msgspec.Struct, frozen=True, kw_only=True):
    """A recurring job."""

    id: int
    name: str = ""
    owner: str = ""
    cron: str = ""
    zone: str = ""
    overlap: str = "skip"
    is_paused: bool = False
    due_at_s: float | None = None
    last_due_s: float | None = None
    last_jobs: list[int] = []
    runs: int = 0
    left_out: int = 0
    problem: str = ""


class MetricName(msgspec.Struct, frozen=True):
    """What a sweep's points are judged by."""

    name: str
    direction: str = "max"


class SweepRam(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a node's memory for a sweep. `state`: checked, copying."""

    state: State
    bytes: int = 0
    checksum: str | None = None
    sentence: str = ""


class SweepRest(msgspec.Struct, frozen=True, kw_only=True):
    """Why a node gets no runner of a sweep, and until when (Unix seconds)."""

    reason: str
    failures: int = 1
    until_s: float = 0.0
    sentence: str = ""


class SweepNode(msgspec.Struct, frozen=True, kw_only=True):
    """What a node does for a sweep."""

    node: str
    runners: int = 0
    workers: int = 0
    under_way: int = 0
    chunks: list[dict[str, Any]] = []
    rate_points_s: float = 0.0
    ram: SweepRam | None = None  # None: nothing of the sweep is read from memory there
    rest: SweepRest | None = None  # a runner could not be prepared there


class SweepView(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep and how far it is."""

    id: int
    name: str = ""
    owner: str = ""
    state: State = ""
    reason: str = ""
    run: str = "main"
    space: str = ""
    target: str = ""
    search: str = "grid"
    where: str = ""
    metric: MetricName = MetricName("value")
    metrics: list[MetricName] = []
    points_total: int = 0  # of the main run
    main_failed: int = 0
    points: int = 0  # of the run that goes on
    done: int = 0
    failed: int = 0
    reused: int = 0
    stopped_early: int = 0
    under_way: int = 0
    to_retry: int = 0
    percent: float = 0.0
    rate_points_s: float | None = None
    eta_s: float | None = None
    workers: int = 0
    runners: int = 0
    chunks: int = 0
    nodes: list[SweepNode] = []
    project: str = ""
    entrypoint: str = ""
    submitted_at_s: float | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None
    took_s: float | None = None
    retried: int | None = None
    spec: dict[str, Any] | None = None
    events: list[dict[str, Any]] = []

    @property
    def is_final(self) -> bool:
        """Whether the sweep is over."""
        return self.state in ("done", "failed", "cancelled")


class RankedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point of a sweep with its rank's value."""

    point: int
    value: float
    params: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    seconds: float = 0.0
    control: dict[str, Any] | None = None  # metrics of the second run
    spread: float | None = None  # the standard deviation over folds and repeats


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """The best points of a sweep, best first."""

    by: str
    direction: str = "max"
    ranked: int = 0
    rows: list[RankedPoint] = []


class FailedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point that failed: for good, or until `retry_at_s`."""

    point: int
    tries: int = 0
    kind: str = ""
    sentence: str = ""
    seconds: float = 0.0
    node: str = ""
    at_s: float | None = None
    retry_at_s: float | None = None
    params: dict[str, Any] = {}


class Attach(msgspec.Struct, frozen=True, kw_only=True):
    """How to get into a running job: an argv for the controller's machine, and what to press to leave."""

    argv: list[str]
    hint: str = ""
