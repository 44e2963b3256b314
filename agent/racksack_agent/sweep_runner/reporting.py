"""Values that a point reports while it runs: `racksack.report(step, loss=0.3)` in a function of a sweep.

The worker makes this module importable as `racksack` in the job's Python, unless the real package is installed there,
whose `report` and `Stop` come back to this module. Outside of a sweep `report` does nothing, so the same code runs
everywhere.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any, Callable, Mapping, Optional

Listener = Callable[[float, Mapping[str, Any]], bool]


class Stop(BaseException):  # an order, not an error: `except Exception` in a job must not swallow it
    """Raised by `report` when the sweep stops this point early: let it pass, or clean up and return."""


_listener: Optional[Listener] = None


def report(step: float, values: Optional[Mapping[str, Any]] = None, **more: object) -> None:
    """Report metrics of the running point at a step: a number that only grows, such as an epoch.

    Raises Stop when the point is not worth going on with; TypeError for a step that is no number.
    """
    if isinstance(step, bool) or not isinstance(step, (int, float)):
        raise TypeError(f"report() needs a number as its first argument, the step; it got {step!r}")
    if hear(float(step), {**(values or {}), **more}):
        raise Stop(f"stopped early at step {step:g}")


def hear(step: float, values: Mapping[str, Any]) -> bool:
    """Pass a report on; whether the point is to stop."""
    return _listener is not None and _listener(step, values)


def listen(listener: Optional[Listener]) -> None:
    """Have `report` call this; it answers whether the point is to stop."""
    global _listener  # noqa: PLW0603 - one worker computes one point at a time
    _listener = listener


def install() -> None:
    """Make `import racksack` work in the job, where the package itself is not installed."""
    if "racksack" in sys.modules or importlib.util.find_spec("racksack") is not None:
        return
    module = types.ModuleType("racksack", __doc__)
    module.report = report  # type: ignore[attr-defined]
    module.Stop = Stop  # type: ignore[attr-defined]
    sys.modules["racksack"] = module
