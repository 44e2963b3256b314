"""`racksack.report(step, loss=0.3)` in the code of a job: values of a sweep's point while it runs.

In a worker of a sweep it reaches the sweep; anywhere else it does nothing, so the same code runs on a laptop.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType

_HOOK = "racksack_agent.sweep_runner.reporting"  # loaded in workers of sweeps alone


class _NeverStop(BaseException):
    """`racksack.Stop` outside of a sweep, where nothing raises it."""


def _hook() -> ModuleType | None:
    return sys.modules.get(_HOOK)


def report(step: float, values: Mapping[str, object] | None = None, **more: object) -> None:
    """Report metrics of the running point at a step: a number that only grows, such as an epoch.

    Raises `racksack.Stop` when the sweep stops this point early; TypeError for a step that is no number.
    """
    if isinstance(step, bool) or not isinstance(step, int | float):
        raise TypeError(f"report() needs a number as its first argument, the step; it got {step!r}")
    hook = _hook()
    if hook is not None:
        hook.report(step, values, **more)


Stop: type[BaseException] = getattr(_hook(), "Stop", _NeverStop)
