"""A rack of unequal nodes: the one of a configuration, with nodes added to it or left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from racksack_controller.core.rack.amounts import CPUS, MILLI, capacity, could_ever_hold
from racksack_controller.core.records import Job, Node
from racksack_controller.simulate.workload import Task, WorkloadError
from racksack_jobspecs.resources import Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.states import JobState
from racksack_jobspecs.units import format_memory, parse_memory

PLENTY = 2**50  # disk of a node of which nobody knows how much it has
_SIZE = re.compile(r"([0-9]+)x([0-9.]+ *[A-Za-z]+)")
_LIKE = re.compile(r"like:(.+)")


class Fleet(msgspec.Struct, frozen=True):
    """Nodes; every job runs on one of them (a gang on several)."""

    nodes: tuple[Node, ...]
    layout: str = "single"

    @property
    def count(self) -> int:
        """How many nodes."""
        return len(self.nodes)

    @property
    def processors(self) -> float:
        """CPUs for jobs, of all nodes."""
        return sum(capacity(node)[CPUS] for node in self.nodes) / MILLI

    @property
    def cpus(self) -> float:
        """CPUs for jobs of a node, on average."""
        return self.processors / max(1, self.count)

    def job_of(self, task: Task, number: int) -> Job | None:
        """The job that stands for a task, or None when no node could ever hold it."""
        job = _job_of_history(task.job, number) if task.job is not None else _job_of_trace(task, number)
        able = sum(could_ever_hold(job, node) for node in self.nodes)
        return job if able >= job.spec.gang else None


def _job_of_history(job: Job, number: int) -> Job:
    """As it was when it was submitted; what it waited for is over when it comes."""
    return Job(
        id=number,
        owner=job.owner,
        spec=job.spec,
        snapshot=job.snapshot,
        submitted_at_s=job.submitted_at_s,
        state=JobState.QUEUED,
        array_id=job.array_id,
        array_index=job.array_index,
    )


def _job_of_trace(task: Task, number: int) -> Job:
    spec = JobSpec(
        name=task.program,
        project="workload",
        entrypoint=task.program,
        resources=ResourceRequest(task.processors, round(task.ram_bytes * task.processors)),
        time_limit_s=task.limit_s,
        priority=task.priority,
    )
    return Job(id=number, owner=task.user, spec=spec, snapshot="", submitted_at_s=task.submit_s)


def with_changes(fleet: Fleet, added: Sequence[str], without: Sequence[str]) -> Fleet:
    """A fleet less some nodes and with others. Raises WorkloadError."""
    known = {node.name: node for node in fleet.nodes}
    for name in without:
        if name not in known:
            raise WorkloadError(f"there is no node called {name!r} to leave out; there are {', '.join(known)}")
    nodes = [node for node in fleet.nodes if node.name not in without]
    for number, text in enumerate(added, start=1):
        nodes.append(_added(text, number, known))
    if not nodes:
        raise WorkloadError("no nodes are left")
    return Fleet(tuple(nodes))


def _added(text: str, number: int, known: Mapping[str, Node]) -> Node:
    name = f"new{number}"
    like, size = _LIKE.fullmatch(text), _SIZE.fullmatch(text)
    if like is not None and like[1] in known:
        return _twin(known[like[1]], name)
    if size is None or not int(size[1]):
        names = ", ".join(f"like:{one}" for one in known)
        raise WorkloadError(f"{text!r} is not a node; write CPUs x memory, such as 32x128G, or {names}")
    try:
        ram_bytes = parse_memory(size[2])
    except ValueError as error:
        raise WorkloadError(f"{text!r} is not a node: {error}") from None
    return Node(name=name, inventory=Inventory(int(size[1]), ram_bytes, PLENTY))


def _twin(node: Node, name: str) -> Node:
    inventory = node.inventory
    if inventory is not None:
        gpus = tuple(msgspec.structs.replace(gpu, uuid=f"{name}-{gpu.uuid}") for gpu in inventory.gpus)
        inventory = msgspec.structs.replace(inventory, gpus=gpus)
    return msgspec.structs.replace(node, name=name, inventory=inventory)


def described(added: Sequence[str], without: Sequence[str]) -> str:
    """The changes in a few words, for the table."""
    return ", ".join([*(f"+{text}" for text in added), *(f"-{name}" for name in without)])


def size_of(fleet: Fleet) -> str:
    """A fleet in one line."""
    ram = sum(capacity(node)[1] for node in fleet.nodes)
    gpus = sum(len(node.gpus) for node in fleet.nodes)
    devices = f", {gpus} GPUs" if gpus else ""
    return f"{fleet.count} nodes, {fleet.processors:g} CPUs, {format_memory(ram)}{devices}"
