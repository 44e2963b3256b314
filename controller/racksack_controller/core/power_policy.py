"""How power is to be decided: one frozen value, built from the configuration and handed to every pass."""

from __future__ import annotations

from datetime import datetime, tzinfo

import msgspec

DAY_S = 86400


class Window(msgspec.Struct, frozen=True):
    """A time of day, seconds after local midnight; `end_s` below `begin_s` reaches into the next day."""

    begin_s: int
    end_s: int

    def holds(self, second: float) -> bool:
        """Whether it holds a second of the day."""
        if self.begin_s <= self.end_s:
            return self.begin_s <= second < self.end_s
        return second >= self.begin_s or second < self.end_s


class PowerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The knobs of power. Times in seconds."""

    keep_on: int = 0  # so many nodes stay on, the cheapest
    wait_worth: float = 8.0  # a second of one job's waiting is worth so many seconds of an idle node
    boot_stagger_s: float = 5.0  # at least so long between two boots
    price_per_kwh: float | None = None
    quiet: tuple[Window, ...] = ()  # if any: jobs of low priority wake nodes only in these
    quiet_priority: int = 0  # low: this or less
    zone: tzinfo | None = None  # of the windows; None: local time


DEFAULT_POWER = PowerPolicy()


def is_quiet(policy: PowerPolicy, now: float) -> bool:
    """Whether `now` lies in a quiet window."""
    return any(window.holds(second_of_day(now, policy.zone)) for window in policy.quiet)


def next_quiet_s(policy: PowerPolicy, now: float) -> float | None:
    """The Unix time at which the next quiet window begins, or None when there is none."""
    second = second_of_day(now, policy.zone)
    waits = [(window.begin_s - second) % DAY_S for window in policy.quiet]
    return now + min(waits) if waits else None


def second_of_day(now: float, zone: tzinfo | None = None) -> float:
    """Seconds since midnight, in a time zone (None: local time)."""
    local = datetime.fromtimestamp(now, zone)
    return local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6
