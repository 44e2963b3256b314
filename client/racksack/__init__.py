"""racksack from Python: submit jobs, wait for them, read their logs, fetch their results.

    import racksack
    job = racksack.submit("./project", "main.py", cpus=16, ram="32G")
    print(job.wait(), job.fetch())

Names are imported when they are first used, so that `import racksack` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from racksack.api import connect as connect
    from racksack.api import job as job
    from racksack.api import jobs as jobs
    from racksack.api import nodes as nodes
    from racksack.api import submit as submit
    from racksack.client import Client as Client
    from racksack.errors import NeverRunnableError as NeverRunnableError
    from racksack.errors import NotFoundError as NotFoundError
    from racksack.errors import PartialError as PartialError
    from racksack.errors import ProjectError as ProjectError
    from racksack.errors import RacksackError as RacksackError
    from racksack.errors import RefusedError as RefusedError
    from racksack.errors import TransferError as TransferError
    from racksack.errors import UnreachableError as UnreachableError
    from racksack.errors import UsageError as UsageError
    from racksack.errors import WaitTimeoutError as WaitTimeoutError
    from racksack.executor.calls import RemoteError as RemoteError
    from racksack.executor.executor import Executor as Executor
    from racksack.executor.executor import Future as Future
    from racksack.job_objects import Job as Job
    from racksack.job_objects import JobArray as JobArray
    from racksack.marking import checkpoint as checkpoint
    from racksack.reporting import Stop as Stop
    from racksack.reporting import report as report
    from racksack.sweep_client.api import Sweep as Sweep
    from racksack.sweep_client.api import find_sweep as find_sweep
    from racksack.sweep_client.api import sweep as sweep
    from racksack.sweep_client.api import sweeps as sweeps
    from racksack.views import FailedPoint as FailedPoint
    from racksack.views import JobDetails as JobDetails
    from racksack.views import JobView as JobView
    from racksack.views import NodeView as NodeView
    from racksack.views import RankedPoint as RankedPoint
    from racksack.views import SweepView as SweepView

_HOMES = {
    "racksack.api": ("connect", "job", "jobs", "nodes", "submit"),
    "racksack.job_objects": ("Job", "JobArray"),
    "racksack.client": ("Client",),
    "racksack.errors": (
        "NeverRunnableError",
        "NotFoundError",
        "PartialError",
        "ProjectError",
        "RacksackError",
        "RefusedError",
        "TransferError",
        "UnreachableError",
        "UsageError",
        "WaitTimeoutError",
    ),
    "racksack.executor.calls": ("RemoteError",),
    "racksack.executor.executor": ("Executor", "Future"),
    "racksack.marking": ("checkpoint",),
    "racksack.reporting": ("Stop", "report"),
    "racksack.sweep_client.api": ("Sweep", "find_sweep", "sweep", "sweeps"),
    "racksack.views": ("FailedPoint", "JobDetails", "JobView", "NodeView", "RankedPoint", "SweepView"),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)  # noqa: PLE0605 - the table is the list


def __dir__() -> list[str]:
    """What there is for tab completion, without importing any of it."""
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is exported
    if name == "__version__":
        from importlib.metadata import version

        return version("racksack")
    for home, names in _HOMES.items():
        if name in names:
            import importlib

            value = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'racksack' has no attribute {name!r}")
