"""The power of a node as the API and the page show it: plain values, units last. No I/O."""

from __future__ import annotations

from racksack_controller.core.power.off import off_at_s
from racksack_controller.core.power_records import Phase
from racksack_controller.core.reachability import on_behind
from racksack_controller.core.state import State
from racksack_controller.energy.joules import Draw
from racksack_controller.web.views import View


def power_view(state: State, name: str, draw: Draw | None, now: float) -> View | None:
    """The power of a node; None when it has no power block and is always on."""
    power, traits = state.power.get(name), state.power_traits.get(name)
    if power is None or traits is None:
        return None
    off_at = off_at_s(state, power, now)
    idle_since_s = power.idle_since_s if power.phase is Phase.ON else None
    hold = power.hold if power.held(now) else None
    return {
        "phase": str(power.phase),
        "since_s": power.since_s,
        "why": power.why,
        "way": power.way,
        "watts": None if draw is None else round(draw.watts, 1),
        "watts_from": None if draw is None else str(draw.source),
        "idle_for_s": None if idle_since_s is None else max(0.0, now - idle_since_s),
        "off_in_s": None if off_at is None else max(0.0, off_at - now),
        "last_boot_s": power.boots.last_s if power.boots.count else None,
        "boot_mean_s": power.boots.mean_s if power.boots.count else None,
        "boots": power.boots.count,
        "last_off_s": power.offs.last_s if power.offs.count else None,
        "failures": power.failures + power.stops_failed,
        "problem": power.problem,
        "retry_in_s": max(0.0, power.retry_at_s - now) if power.retry_at_s > now else None,
        "held_by": hold.by if hold else None,
        "held_for_s": max(0.0, hold.until_s - now) if hold and hold.until_s is not None else None,
        "wish": str(power.request),
        "on_behind": on_behind(state, name),
        "logins": power.logins,
        "switches_off": traits.can_switch_off,
    }
