"""The virtual rack: nodes that run what they are asked to for as long as the workload says, and break from a seed."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from racksack_controller.core.records import Job, Node
from racksack_controller.simulate.fleet import Fleet
from racksack_controller.simulate.workload import Task, WorkloadError
from racksack_jobspecs.resources import Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec

_LAYOUT = re.compile(r"([0-9]+)x([0-9]+)")
PLENTY = 2**50  # memory and disk of a node when a workload does not speak of them


class Layout(StrEnum):
    """How a job's processors lie on the nodes."""

    SINGLE = "single"  # on one node; jobs larger than every node are left out
    POOL = "pool"  # anywhere: the whole rack is one node
    GANG = "gang"  # a rank for each processor, each on a node of its own


class Machines(msgspec.Struct, frozen=True):
    """A rack of equal nodes."""

    count: int
    cpus: int
    layout: Layout = Layout.SINGLE

    @property
    def processors(self) -> int:
        """Of all nodes."""
        return self.count * self.cpus


def parse_machines(text: str, layout: Layout) -> Machines:
    """`16x8`: sixteen nodes of eight processors. Raises WorkloadError with a sentence."""
    match = _LAYOUT.fullmatch(text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise WorkloadError(f"{text!r} is not a rack; write nodes x processors, such as 16x8")
    return Machines(int(match[1]), int(match[2]), layout)


def nodes_of(machines: Machines | Fleet, *, switched: bool = False) -> list[Node]:
    """The nodes, as they stand in the state. A pool is one node, unless its nodes are switched one by one."""
    if isinstance(machines, Fleet):
        return list(machines.nodes)
    as_one = machines.layout is Layout.POOL and not switched
    count, cpus = (1, machines.processors) if as_one else (machines.count, machines.cpus)
    inventory = Inventory(cpus, PLENTY, PLENTY)
    return [Node(name=f"n{number:04}", inventory=inventory) for number in range(1, count + 1)]


def job_of(task: Task, number: int, machines: Machines | Fleet) -> Job | None:
    """The job that stands for a task, or None when no node could ever hold it."""
    if isinstance(machines, Fleet):
        return machines.job_of(task, number)
    gang = int(task.processors) if machines.layout is Layout.GANG else 1
    cpus = 1 if machines.layout is Layout.GANG else task.processors
    largest = machines.processors if machines.layout is not Layout.SINGLE else machines.cpus
    if task.processors > largest:
        return None
    spec = JobSpec(
        name=task.program,
        project="workload",
        entrypoint=task.program,
        resources=ResourceRequest(cpus, 0),
        time_limit_s=task.limit_s,
        priority=task.priority,
        gang=gang,
    )
    return Job(id=number, owner=task.user, spec=spec, snapshot="", submitted_at_s=task.submit_s)
