"""Jobs, nodes, reports and a small driver of the core, as the only fixture the core's tests need."""

from __future__ import annotations

from typing import Any

import msgspec

from racksack_controller.core import events as ev
from racksack_controller.core.apply import apply
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.placing.reading import Reading
from racksack_controller.core.policy import DEFAULT, Policy
from racksack_controller.core.power_policy import DEFAULT_POWER, PowerPolicy
from racksack_controller.core.report import AttemptReport
from racksack_controller.core.state import Job, Node, State
from racksack_jobspecs.resources import Gpu, GpuRequest, Inventory, ResourceRequest
from racksack_jobspecs.spec import JobSpec

GIB = 1024**3


def gpus(count: int, *, model: str = "RTX 3090", vram: int = 24 * GIB, prefix: str = "GPU") -> tuple[Gpu, ...]:
    """`count` equal devices."""
    return tuple(Gpu(index, f"{prefix}-{index}", "nvidia", model, vram) for index in range(count))


def inventory(cpus: int = 8, ram_gib: int = 32, disk_gib: int = 1000, devices: tuple[Gpu, ...] = ()) -> Inventory:
    """What a node has."""
    return Inventory(cpus, ram_gib * GIB, disk_gib * GIB, devices)


def node(name: str = "n1", **changes: Any) -> Node:
    """A node that is up, with 8 CPUs, 32 GiB and no GPU unless told otherwise."""
    fields: dict[str, Any] = {"inventory": inventory(), "connected": True, "connection_reason": "", "boot_id": "b1"}
    return Node(name=name, **{**fields, **changes})


def request(
    cpus: float = 1, ram_gib: float = 1, gpu: float | GpuRequest | None = None, disk_gib: int = 0
) -> ResourceRequest:
    """What a job asks for."""
    wanted = GpuRequest(gpu) if isinstance(gpu, (int, float)) else gpu
    return ResourceRequest(cpus, int(ram_gib * GIB), wanted, disk_gib * GIB)


def job(number: int = 1, resources: ResourceRequest | None = None, **changes: Any) -> Job:
    """A queued job; fields of the job and of its spec may both be given by name, `after` being the job's."""
    of_spec = {key: changes.pop(key) for key in list(changes) if key in JobSpec.__struct_fields__ and key != "after"}
    spec = JobSpec(
        **{
            "name": f"job{number}",
            "project": "demo",
            "entrypoint": "main.py",
            "resources": resources or request(),
            **of_spec,
        }
    )
    fields: dict[str, Any] = {"owner": "ann", "snapshot": "0" * 64, "submitted_at_s": float(number)}
    return Job(id=number, spec=spec, **{**fields, **changes})


def report(attempt: str, state: str = "running", **changes: Any) -> AttemptReport:
    """What a node tells about an attempt."""
    if state == "ended":
        changes.setdefault("outcome", "done")
    return msgspec.convert({"attempt": attempt, "state": state, **changes}, AttemptReport)


class Bench:
    """A state with a clock, so that a test reads as a story of events."""

    def __init__(self, *nodes: Node, power_policy: PowerPolicy = DEFAULT_POWER) -> None:
        self.state = State()
        self.now = 1000.0
        self.memory = PassMemory()
        self.power_policy = power_policy
        for one in nodes:
            self.state.put_node(one)

    def happen(self, *events: ev.Event, after_s: float = 1.0) -> State:
        """Apply events one after the other, `after_s` seconds apart."""
        for event in events:
            self.now += after_s
            apply(self.state, event, self.now)
        return self.state

    def submit(self, *jobs: Job) -> None:
        """Accept jobs."""
        self.happen(*(ev.JobAccepted(one) for one in jobs))

    def place(self, policy: Policy = DEFAULT) -> list[ev.Placed]:
        """One pass of the scheduler; its placements are applied."""
        self.state.queue.advance(self.now)
        placed, self.memory = schedule(self.state, self.now, policy, self.memory, self.power_policy)
        self.happen(*placed, after_s=0.0)
        return placed

    def reading(self, policy: Policy = DEFAULT, after_s: float = 0.0) -> Reading:
        """What questions about the present, or a moment later, are answered from."""
        return Reading(self.state, self.now + after_s, policy, self.power_policy, self.memory.reservation)

    def run(self, number: int) -> str:
        """Submit nothing, place what fits and bring job `number` to running; the attempt's key."""
        self.place()
        key = self.state.jobs[number].attempt_key
        where = self.state.attempts[key].node
        self.happen(ev.Launched(key), ev.Reported(where, report(key)))
        return key
