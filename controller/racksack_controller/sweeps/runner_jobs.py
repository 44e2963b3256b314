"""Runner jobs: ordinary jobs of the scheduler that compute points of a sweep. What they are, and what they are told."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from msgspec.structs import replace

from racksack_controller.core.records import Allocation, Job, Node
from racksack_controller.core.sweeps import stopping
from racksack_controller.core.sweeps.records import CONTROL, Sweep
from racksack_controller.sweeps.active import slots_of
from racksack_controller.sweeps.search.numbering import is_drawn
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.sweep.spec import SweepSpec


def draft(sweep: Sweep, now: float, exclude: Sequence[str] = (), only: str = "") -> Job:
    """A runner job without a number, in the name of the sweep's owner, for the sweep's nodes less some, or for one."""
    return Job(
        id=0,
        owner=sweep.owner,
        spec=runner_spec(sweep, exclude, only),
        snapshot=sweep.snapshot,
        data=sweep.data,
        submitted_at_s=now,
        after=sweep.waits_for,
    )


def numbered(job: Job, number: int) -> Job:
    """A draft as the runner job with the id `number`."""
    spec = replace(job.spec, submission=f"sweep-{job.spec.runner_of}-{number}")
    return replace(job, id=number, key=secrets.token_hex(8), spec=spec)


def runner_spec(sweep: Sweep, exclude: Sequence[str] = (), only: str = "") -> JobSpec:
    """The sweep's own spec, less what the sweep itself sees to: limits of time, retries, its begin."""
    spec = sweep.spec
    return replace(
        spec,
        sweep=None,
        runner_of=sweep.id,
        args=(),
        time_limit_s=None,
        retries=0,
        after=(),
        array=None,
        hold=False,
        nodes=(only,) if only else spec.nodes,
        exclude=tuple(dict.fromkeys((*spec.exclude, *exclude))),
        stage_in_ram=tuple(dict.fromkeys((*spec.stage_in_ram, *sweep.sweep.ramdisk))),
    )


def plan_of(sweep: Sweep, node: str) -> dict[str, object]:
    """What a runner on a node needs to know; see `racksack_agent.sweep_runner`."""
    spec = sweep.sweep
    target = spec.target
    runs: list[dict[str, object]] = [{"env": {}, "fixed": {}}]
    if spec.control is not None:
        runs.append({"env": spec.control.env, "fixed": spec.control.args})
    assert len(runs) <= CONTROL + 1  # noqa: S101 - the main run and the control run
    return {
        "sweep": sweep.id,
        "target": {
            "kind": target.kind,
            "file": target.file,
            "name": target.name,
            "argv": list(target.argv),
            "fixed": target.fixed,
        },
        "space": space_of(spec),
        "slots": slots_of(spec, sweep.spec.resources, node),
        "metric": spec.metrics[0].name if spec.metrics else "value",
        "point_timeout_s": spec.point_timeout_s,
        "runs": runs,
        "stop": _stop_of(spec),
    }


def _stop_of(spec: SweepSpec) -> dict[str, object] | None:
    """At which steps a point waits for the verdict on it."""
    if spec.stop is None:
        return None
    return {"rungs": stopping.rungs(spec.stop), "brackets": stopping.brackets(spec.stop)}


def space_of(spec: SweepSpec) -> dict[str, object]:
    """How a runner makes parameters of a point's number."""
    if spec.range is not None:
        return {"kind": "range", "first": spec.range.first, "last": spec.range.last, "step": spec.range.step}
    if spec.scripts or is_drawn(spec) or any(axis.only_if for axis in spec.axes):
        return {"kind": "given"}
    names = [axis.name for axis in spec.axes]
    folds = {"folds": list(spec.folds)} if spec.folds else {}
    return {"kind": "grid", "names": names, "axes": [list(axis.values) for axis in spec.axes], **folds}


def speed_names(node: Node | None, allocation: Allocation) -> tuple[str, ...]:
    """Under which names the speed of a runner is learnt: its node, and the model of its first GPU."""
    if node is None:
        return ()
    models = [gpu.model for gpu in node.gpus if gpu.uuid in allocation.gpus]
    return (node.name, f"GPU {models[0]}") if models else (node.name,)
