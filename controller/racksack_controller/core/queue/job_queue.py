"""The queue as job classes: the waiting jobs of one owner and priority that ask for the same thing are one class.

Only the first job of a class can be next, so a pass of the scheduler looks at classes, not at jobs. The numbers of a
class stand in arrays, so that all classes are ordered and compared with the rack at once.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.queue.history import History, HistoryKey, history_key
from racksack_controller.core.rack.amounts import CPUS, DIMENSIONS, RAM, SLOTS, Vector, demand
from racksack_controller.core.rack.devices import GpuKind, gpu_kind
from racksack_controller.core.rack.fragmentation import Usual
from racksack_controller.core.rack.rack import Admission
from racksack_controller.core.records import Job

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DEADLINE_HORIZON_S = 86400.0
NO_LIMIT = -1.0
USUAL_KINDS = 8
NEEDS_KEPT = 64
COMPACT_ABOVE = 1000  # programs, groups or owners
KINDS_KEPT = 500  # of devices, that were asked for most often


class JobClass(NamedTuple):
    """What the jobs of one class have in common."""

    need: Vector
    kind: GpuKind | None
    admission: Admission
    avoid: tuple[str, ...]
    gang: int
    limit_s: float
    owner: str
    priority: int
    array: int | None  # of an array with a limit: its id
    array_limit: int
    history: HistoryKey


def class_of(job: Job) -> JobClass:
    """The class that a job belongs to."""
    spec = job.spec
    limited = spec.array.max_running if spec.array is not None else None
    return JobClass(
        need=demand(spec.resources),
        kind=gpu_kind(spec.resources),
        admission=Admission(spec.labels, spec.nodes, spec.exclude, spec.partition),
        avoid=job.avoid,
        gang=spec.gang,
        limit_s=NO_LIMIT if spec.time_limit_s is None else spec.time_limit_s,
        owner=job.owner,
        priority=spec.priority,
        array=job.array_id if limited else None,
        array_limit=limited or 0,
        history=history_key(job),
    )


def eligible_at_s(job: Job) -> float:
    """The Unix time before which the job may not start."""
    return max(job.not_before_s, job.spec.begin_at_s or 0.0)


def age_since_s(job: Job) -> float:
    """The time that counts as its submission: a deadline makes a job older, the nearer its latest start is."""
    if job.spec.deadline_at_s is None:
        return job.submitted_at_s
    latest_start_s = job.spec.deadline_at_s - (job.spec.time_limit_s or 0.0)
    return min(job.submitted_at_s, latest_start_s - DEADLINE_HORIZON_S)


class JobQueue:
    """All queued jobs that wait for nothing but room (in classes) or for a moment (`later`)."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.classes: dict[int, JobClass] = {}  # by index; an index is used again
        self.jobs: list[list[tuple[float, int]]] = []  # of each class: (age since, id), the next one first
        self.need: Ints = np.zeros((DIMENSIONS, 64), dtype=np.int64)
        self.size: Ints = np.zeros(64, dtype=np.int64)
        self.keys: Floats = np.zeros((3, 64))  # -priority, age and id of the first job
        self.limit_s: Floats = np.zeros(64)
        self.program: Ints = np.zeros(64, dtype=np.int64)  # whose history counts
        self.program_s: Floats = np.zeros(64)  # of each program: the predicted run time, or -1
        self.owner: Ints = np.zeros(64, dtype=np.int64)
        self.group: Ints = np.zeros(64, dtype=np.int64)  # equal: the same nodes and devices come into question
        self.gang: Ints = np.ones(64, dtype=np.int64)
        self.serial: Ints = np.zeros(64, dtype=np.int64)  # of each class: a number that no class had before
        self.by_rank: dict[tuple[int, str], list[tuple[float, int]]] = {}  # of each priority and owner: its jobs
        self.owners: dict[str, int] = {}
        self.groups: list[tuple[Admission, GpuKind | None]] = []
        self._group_of: dict[tuple[Admission, GpuKind | None], int] = {}
        self._index: dict[JobClass, int] = {}
        self._unused: list[int] = []
        self._opened = 0
        self._where: dict[int, tuple[int, tuple[float, int]]] = {}
        self._programs: dict[HistoryKey, int] = {}
        self._asked: dict[GpuKind, tuple[int, int, int]] = {}  # how often, and the sums of CPUs and memory
        self._seen: dict[tuple[int, ...], None] = {}  # the latest last
        self._later: list[tuple[float, int]] = []
        self._later_jobs: dict[int, Job] = {}

    def put(self, job: Job) -> None:
        """A job waits for room, or for its time to begin."""
        if max(len(self._programs), len(self.groups), len(self.owners)) > COMPACT_ABOVE + 4 * len(self.classes):
            self._compact()
        self.remove(job.id)
        eligible = eligible_at_s(job)
        if eligible > 0.0:
            self._later_jobs[job.id] = job
            heapq.heappush(self._later, (eligible, job.id))
        else:
            self._enqueue(job)

    def remove(self, job_id: int) -> None:
        """A job does not wait any more."""
        if self._later_jobs.pop(job_id, None) is not None:
            self._drop_stale()
        where = self._where.pop(job_id, None)
        if where is None:
            return
        index, entry = where
        jobs = self.jobs[index]
        del jobs[bisect_left(jobs, entry)]
        job_class = self.classes[index]
        members = self.by_rank[job_class.priority, job_class.owner]
        del members[bisect_left(members, entry)]
        self.size[index] -= 1
        if jobs:
            self.keys[1:, index] = jobs[0]
        else:
            self._close(index)

    def advance(self, now: float) -> None:
        """Put the jobs whose time has come into their classes."""
        while self._later and self._later[0][0] <= now:
            _, job_id = heapq.heappop(self._later)
            self._enqueue(self._later_jobs.pop(job_id))
            self._drop_stale()

    def next_eligible_s(self) -> float | None:
        """The earliest Unix time at which a job that waits for its time may start, or None."""
        return self._later[0][0] if self._later else None

    def _drop_stale(self) -> None:
        """Let the first entry of the heap be one that holds."""
        while self._later and not self._is_later(*self._later[0]):
            heapq.heappop(self._later)

    def _is_later(self, eligible: float, job_id: int) -> bool:
        job = self._later_jobs.get(job_id)
        return job is not None and eligible_at_s(job) == eligible

    def begin_by(self, until_s: float) -> tuple[list[Job], float | None]:
        """The jobs that asked to begin at a time up to `until_s`, the earliest first, and the first moment after it.

        Only the part of the heap up to `until_s` is looked at.
        """
        found: list[tuple[float, int]] = []
        after: list[float] = []
        places = [0]
        for place in places:
            if place >= len(self._later):
                continue
            eligible, job_id = self._later[place]
            if eligible > until_s:
                after.append(eligible)
                continue
            places += (2 * place + 1, 2 * place + 2)
            job = self._later_jobs.get(job_id)
            if job is not None and eligible == eligible_at_s(job) == job.spec.begin_at_s:
                found.append((eligible, job_id))
        return [self._later_jobs[job_id] for _, job_id in sorted(set(found))], min(after, default=None)

    def repredict(self, key: HistoryKey) -> None:
        """The history of a program has changed."""
        if key in self._programs:
            self.program_s[self._programs[key]] = self.history.predict_s(key)

    def predicted_s(self, classes: Ints | int) -> Floats:
        """The run times that history expects of these classes; -1 where it knows nothing."""
        expected: Floats = self.program_s[self.program[classes]]
        return expected

    def usual(self) -> list[Usual]:
        """The kinds of jobs with devices that were asked for most often, with their mean CPUs and memory."""
        common = sorted(self._asked.items(), key=lambda item: -item[1][0])[:USUAL_KINDS]
        total = sum(asked[0] for _, asked in common)
        return [Usual(cpus // count, ram // count, kind, count / total) for kind, (count, cpus, ram) in common]

    def open_classes(self) -> Ints:
        """The indices of the classes that have jobs."""
        return np.flatnonzero(self.size[: len(self.jobs)])

    def seen_needs(self) -> Ints:
        """What jobs have asked for of late, (needs, dimensions without slots)."""
        return np.array(list(self._seen), dtype=np.int64).reshape(len(self._seen), SLOTS)

    def _note_need(self, need: tuple[int, ...]) -> None:
        self._seen.pop(need, None)
        self._seen[need] = None
        if len(self._seen) > NEEDS_KEPT:
            del self._seen[next(iter(self._seen))]

    def _enqueue(self, job: Job) -> None:
        job_class = class_of(job)
        self._note_need(job_class.need[:SLOTS])
        index = self._index.get(job_class)
        if index is None:
            index = self._open(job_class)
        if job_class.kind is not None:
            count, cpus, ram = self._asked.get(job_class.kind, (0, 0, 0))
            if not count and len(self._asked) >= KINDS_KEPT:
                del self._asked[min(self._asked, key=lambda kind: self._asked[kind][0])]
            self._asked[job_class.kind] = (count + 1, cpus + job_class.need[CPUS], ram + job_class.need[RAM])
        entry = (age_since_s(job), job.id)
        insort(self.jobs[index], entry)
        insort(self.by_rank.setdefault((job_class.priority, job_class.owner), []), entry)
        self._where[job.id] = (index, entry)
        self.size[index] += 1
        self.keys[1:, index] = self.jobs[index][0]

    def _open(self, job_class: JobClass) -> int:
        if self._unused:
            index = self._unused.pop()
        else:
            index = len(self.jobs)
            self.jobs.append([])
            if index == len(self.size):
                self._grow()
        self.classes[index] = job_class
        self._index[job_class] = index
        self._opened += 1
        self.serial[index] = self._opened
        self.need[:, index] = job_class.need
        self.keys[0, index] = -job_class.priority
        self.limit_s[index] = job_class.limit_s
        self.program[index] = self._program(job_class.history)
        self.owner[index] = self.owners.setdefault(job_class.owner, len(self.owners))
        self.group[index] = self._group(job_class)
        self.gang[index] = job_class.gang
        return index

    def _close(self, index: int) -> None:
        job_class = self.classes.pop(index)
        del self._index[job_class]
        if not self.by_rank[job_class.priority, job_class.owner]:
            del self.by_rank[job_class.priority, job_class.owner]
        self._unused.append(index)

    def _compact(self) -> None:
        """Forget the programs, groups and owners of which nothing waits: whoever names jobs can make any number."""
        self._programs, self._group_of, self.groups, self.owners = {}, {}, [], {}
        for index, job_class in self.classes.items():
            self.program[index] = self._program(job_class.history)
            self.owner[index] = self.owners.setdefault(job_class.owner, len(self.owners))
            self.group[index] = self._group(job_class)

    def _group(self, job_class: JobClass) -> int:
        key = (job_class.admission, job_class.kind)
        group = self._group_of.get(key)
        if group is None:
            group = self._group_of[key] = len(self.groups)
            self.groups.append(key)
        return group

    def _program(self, key: HistoryKey) -> int:
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = len(self._programs)
            if program == len(self.program_s):
                self.program_s = np.concatenate([self.program_s, np.zeros_like(self.program_s)])
        self.program_s[program] = self.history.predict_s(key)
        return program

    def _grow(self) -> None:
        for name in ("need", "size", "keys", "limit_s", "program", "owner", "group", "gang", "serial"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros_like(old)], axis=-1))
