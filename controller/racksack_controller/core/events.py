"""All that can happen. `apply` turns each into changes of the state."""

from __future__ import annotations

import msgspec

from racksack_controller.core.records import Allocation, Checkpoint, Job, Node, Part, Past
from racksack_controller.core.report import AttemptReport
from racksack_jobspecs.resources import Gpu, Inventory, SetAsideGpu
from racksack_jobspecs.states import JobState


class Event(msgspec.Struct, frozen=True):
    """Something that happened."""


class RefusedError(Exception):
    """What was asked for cannot be done in the present state; nothing was changed. The sentence says why."""


class ClockJumped(Event, frozen=True):
    """The controller's wall clock was set, by so many seconds; 0 at each start, since it may have been set before."""

    by_s: float = 0.0


class JobAccepted(Event, frozen=True):
    """A job file became a job. `past` is what became of those that it depends on and that are not in memory."""

    job: Job
    past: tuple[Past, ...] = ()


class CancelRequested(Event, frozen=True):
    """Its owner or an operator wants a job to end."""

    job: int
    sentence: str
    grace_s: float | None = None  # None: as long as the job asked for
    signal: str = "TERM"
    discard: bool = False  # what it wrote is not wanted


class Signalled(Event, frozen=True):
    """The program of a running job was sent a signal."""

    job: int
    sentence: str


class HoldRequested(Event, frozen=True):
    """A queued job is not to start."""

    job: int
    sentence: str


class ReleaseRequested(Event, frozen=True):
    """A held job may start."""

    job: int
    by: str = ""  # who released it


class PriorityRequested(Event, frozen=True):
    """A job that waits is to have another priority."""

    job: int
    priority: int
    by: str


class RetryRequested(Event, frozen=True):
    """A finished job is to run again. The record is its present one, from the store."""

    job: int
    record: Job | None = None
    past: tuple[Past, ...] = ()
    from_checkpoint: bool = False  # it goes on from its newest checkpoint; else it starts from the beginning
    broken: dict[int, JobState] = {}  # other elements of its array that ended otherwise than done
    by: str = "its owner"


class DependencyEnded(Event, frozen=True):
    """Something that jobs wait for may be over, although it is not in memory: a sweep, or a job of an earlier run."""

    targets: tuple[tuple[int, bool], ...]
    past: tuple[Past, ...] = ()


class Placed(Event, frozen=True):
    """The scheduler gave a queued job an allocation on a node."""

    job: int
    node: str
    allocation: Allocation
    why: str
    rest: tuple[Part, ...] = ()  # of a gang: what its further ranks hold
    passes: bool = False  # whether fair share lets it pass an older job


class Preempted(Event, frozen=True):
    """A job is to end and to be queued again; `by`: for this job of higher priority."""

    job: int
    sentence: str
    by: int = 0


class NodeConfigured(Event, frozen=True):
    """A node stands in the configuration; what was learnt about it before is kept."""

    node: Node


class NodeRemoved(Event, frozen=True):
    """A node no longer stands in the configuration."""

    node: str


class NodeConnected(Event, frozen=True):
    """A node answers. `reports` is everything that it has, `up_s` for how long the machine has been running."""

    node: str
    boot_id: str
    inventory: Inventory
    reports: tuple[AttemptReport, ...]
    up_s: float | None = None
    contents: tuple[str, ...] = ()  # digests of what is there


class GpusSeen(Event, frozen=True):
    """A look at a node's GPUs found others than before, or others set aside."""

    node: str
    gpus: tuple[Gpu, ...]  # those that jobs may have
    set_aside: tuple[SetAsideGpu, ...]
    problems: tuple[str, ...]


class NodeDisconnected(Event, frozen=True):
    """A node does not answer, or does not answer any more."""

    node: str
    sentence: str


class DrainRequested(Event, frozen=True):
    """A node is to take no more jobs. Its jobs are queued again at once (`now`) or after `deadline_s`."""

    node: str
    reason: str
    now: bool = False
    deadline_s: float | None = None
    then_off: bool = False


class ResumeRequested(Event, frozen=True):
    """A drained node may take jobs again."""

    node: str
    by: str = ""  # who wants it


class Launched(Event, frozen=True):
    """The node has the attempt."""

    attempt: str


class Transferred(Event, frozen=True):
    """Content was sent to a node."""

    node: str
    size_bytes: int
    seconds: float


class StartFailed(Event, frozen=True):
    """An attempt could not be staged or launched. fault: node | job | controller."""

    attempt: str
    fault: str
    sentence: str


class Reported(Event, frozen=True):
    """A node told the state of an attempt."""

    node: str
    report: AttemptReport


class GoSent(Event, frozen=True):
    """The node knows that the rank may start."""

    node: str
    attempt: str


class GoFailed(Event, frozen=True):
    """The node could not be told that the rank may start."""

    node: str
    attempt: str
    sentence: str


class StopSent(Event, frozen=True):
    """The node knows that the attempt is to end."""

    node: str
    attempt: str


class StopFailed(Event, frozen=True):
    """The node could not be told that an attempt is to end."""

    node: str
    attempt: str
    sentence: str


class Collected(Event, frozen=True):
    """The return folder (of a gang: that of one rank) is complete on the controller; `note` says what was left out."""

    attempt: str
    note: str = ""


class CheckpointBrought(Event, frozen=True):
    """A checkpoint of an attempt is complete on the controller."""

    attempt: str
    checkpoint: Checkpoint


class CheckpointFailed(Event, frozen=True):
    """The checkpoint of an attempt could not be brought now."""

    attempt: str
    sentence: str


class CheckpointDamaged(Event, frozen=True):
    """The controller's copy of a checkpoint is not what it should be, and was removed; an earlier one may do."""

    job: int
    digest: str


class Assembled(Event, frozen=True):
    """The folders of a gang's ranks are in place as one return folder. `attempt` is any of the ranks."""

    attempt: str


class AssembleFailed(Event, frozen=True):
    """The folders of a gang's ranks could not be put in place yet."""

    attempt: str
    sentence: str


class CollectFailed(Event, frozen=True):
    """The return folder did not arrive. gone: the node has no such attempt any more.

    counts: it was tried and could not be; not for a node that does not answer or a full disk of the controller.
    """

    attempt: str
    sentence: str
    gone: bool = False
    counts: bool = False


class Removed(Event, frozen=True):
    """Nothing of an attempt is left on its node."""

    node: str
    attempt: str


class RemoveFailed(Event, frozen=True):
    """An attempt's folder could not be removed yet."""

    node: str
    attempt: str
    sentence: str
