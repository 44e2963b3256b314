"""Who is ahead of a waiting job, and when it will start: what is expected, and the latest moment if there is one."""

from __future__ import annotations

from bisect import bisect_left

import msgspec
import numpy as np

from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.placing.reserve import Outlook
from racksack_controller.core.placing.transfers import transfer_s
from racksack_controller.core.queue.job_queue import JobClass, JobQueue, age_since_s
from racksack_controller.core.rack.rack import Bools, Floats, Ints, Rack
from racksack_controller.core.records import Job

SAME_S = 1.0  # moments closer than this are one


class Expectation(msgspec.Struct, frozen=True):
    """What can be said about a start. Times are Unix seconds; both are None while others are ahead.

    `start_s` is when what runs is expected to have made room, None where no earlier run tells; `latest_s` when it must
    have by its time limits, None where something that runs has none.
    """

    ahead: int  # jobs that go first and could use the same nodes
    first: int  # the first of them; meaningless when nobody is ahead
    start_s: float | None = None
    latest_s: float | None = None
    transfer_s: float = 0.0  # of that until its content is there


def expect(reading: Reading, job: Job, job_class: JobClass) -> Expectation:
    """What can be told about a job's start. It need not have been submitted yet."""
    able = could_hold(reading.state.rack, job_class)
    ahead, first = _ahead(reading, job, able)
    if ahead:
        return Expectation(ahead, first)
    capacity = FreeCapacity(reading.state.rack, reading.now, [])
    outlook = Outlook(capacity, reading.now, reading.policy, profiles=reading.profiles)
    latest = outlook.reserve(job.id, job_class, hard=True)
    if latest is None:
        return Expectation(0, 0)
    expected = outlook.reserve(job.id, job_class, hard=False) if reading.policy.predict else None
    transfer_s = max((transfer(reading, job, one) for one in (expected or latest).rows[: job_class.gang]), default=0.0)
    sooner = expected is not None and expected.at_s < latest.at_s - SAME_S
    allocations = reading.state.rack.allocations
    on_able = np.flatnonzero(allocations.row >= 0)
    on_able = on_able[able[allocations.row[on_able]]]
    is_bound = bool(np.all(allocations.times[1, on_able] >= 0))
    return Expectation(
        0,
        0,
        expected.at_s + transfer_s if expected is not None and sooner else None,
        latest.at_s + transfer_s if is_bound else None,
        transfer_s,
    )


def transfer(reading: Reading, job: Job, row: int) -> float:
    """How long bringing the job's content to a node is expected to take. Seconds."""
    return transfer_s(reading.state, job, reading.state.rack.nodes[row].name)


def could_hold(rack: Rack, job_class: JobClass) -> Bools:
    """The nodes that could run one rank of the job if they were empty."""
    need = np.array(job_class.need, dtype=np.int64)
    able: Bools = rack.admitted(job_class.admission) & np.all(rack.largest >= need[:, None], axis=0)
    if job_class.kind is not None:
        matching = rack.devices.matching(job_class.kind)
        able &= np.bincount(rack.devices.row[matching], minlength=len(rack.nodes)) >= job_class.kind.devices
    return able


def goes_first(reading: Reading, job: Job, other: Job) -> bool:
    """Whether `other`, which is queued, is before `job` in the order of the queue."""
    return _rank(reading, other) < _rank(reading, job)


def _rank(reading: Reading, job: Job) -> tuple[float, float, float, float]:
    """The order of the queue; who has not been submitted yet comes after all that have."""
    use = _use_of(job.owner, reading.state.queue, reading.use)
    return (-job.spec.priority, use, age_since_s(job), job.id or float("inf"))


def _ahead(reading: Reading, job: Job, able: Bools) -> tuple[int, int]:
    """How many jobs go first on any of the nodes of a job, and the id of the first of them.

    Those that are at a limit go nowhere; the jobs of a class are passed over or counted together.
    """
    queue = reading.state.queue
    own = _rank(reading, job)
    classes = _competing(reading, able)
    priority, use = queue.keys[0, classes], reading.use[queue.owner[classes]]
    is_before = (priority < own[0]) | ((priority == own[0]) & (use < own[1]))
    counts = np.where(is_before, queue.size[classes], 0)
    for place in np.flatnonzero((priority == own[0]) & (use == own[1])).tolist():
        counts[place] = bisect_left(queue.jobs[int(classes[place])], own[2:])
    ahead = np.flatnonzero(counts)
    if not len(ahead):
        return 0, 0
    _, age, job_id = queue.keys[:, classes[ahead]]
    first = np.lexsort((job_id, age, use[ahead], priority[ahead]))[0]
    return int(counts.sum()), int(job_id[first])


def _competing(reading: Reading, able: Bools) -> Ints:
    """The classes that may start something and of which some node comes into question that also does for a job."""
    queue, rack = reading.state.queue, reading.state.rack
    overlaps = [bool(np.any(rack.admitted(admission) & able)) for admission, _ in queue.groups]
    classes = queue.open_classes()
    most = rack.total[:, able].max(axis=1, initial=0)
    fits = np.all(queue.need[:, classes] <= most[:, None], axis=0)
    competing: Ints = classes[fits & np.array(overlaps, dtype=np.bool_)[queue.group[classes]] & ~reading.at_limit]
    return competing


def _use_of(owner: str, queue: JobQueue, use: Floats) -> float:
    """An owner who has nothing in the queue yet stands as one who has used nothing."""
    return float(use[queue.owners[owner]]) if owner in queue.owners else 0.0
