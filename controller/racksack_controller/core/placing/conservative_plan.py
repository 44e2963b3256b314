"""Conservative backfill's plan: what is free on each node and device from each moment on, and who has reserved it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.placing.backfill import Releases
from racksack_controller.core.rack.amounts import GPUS
from racksack_controller.core.rack.devices import Devices, GpuKind
from racksack_controller.core.rack.rack import Bools, Floats, Ints

MOMENTS_MAX = 256  # of releases, at the beginning; later ones are taken together, which only plans them later
TIMES_MAX = 512  # moments in all; then a reservation lasts until the next one there is


class Parts(NamedTuple):
    """What is held of devices: on which, how many thousandths, and until when."""

    device: Ints
    milli: Ints
    ends_s: Floats


class Plan:
    """Times are Unix seconds; the first of them is now."""

    def __init__(self, releases: Releases, devices: Devices, device_free: Ints, parts: Parts, now: float) -> None:
        moments = np.unique(np.append(releases.ends_s, releases.opens_s[np.isfinite(releases.opens_s)]))
        if len(moments) > MOMENTS_MAX:
            moments = moments[np.linspace(0, len(moments) - 1, MOMENTS_MAX).astype(np.int64)]
        self.times: Floats = np.unique(np.append(now, moments))
        given = np.zeros((len(self.times), *releases.free.shape), dtype=np.int64)
        at = np.searchsorted(self.times, releases.ends_s)
        np.add.at(given.transpose(0, 2, 1), (at, releases.row), releases.need.T)
        self.free: Ints = releases.free + np.cumsum(given, axis=0)
        self.open: Bools = releases.opens_s <= self.times[:, None]
        self.devices = devices
        device, milli, ends_s = parts
        back = np.zeros((len(self.times), len(device_free)), dtype=np.int64)
        np.add.at(back, (np.minimum(np.searchsorted(self.times, ends_s), len(self.times) - 1), device), milli)
        self.device_free: Ints = device_free + np.cumsum(back, axis=0)

    def first_start(
        self, need: Ints, rows: Bools, count: int, length_s: float, kind: GpuKind | None
    ) -> tuple[int, Ints] | None:
        """The first moment (its index) from which there is room for `length_s` on `count` nodes, and these nodes."""
        free = self.open & rows
        for dimension in np.flatnonzero(need):
            if kind is None or dimension != GPUS:
                free &= self.free[:, dimension] >= need[dimension]
        until = np.searchsorted(self.times, self.times + length_s)
        lasting = _lasting(free, until)
        if kind is not None:
            lasting &= self._lasting_devices(kind, until) >= kind.devices
        enough = np.flatnonzero(np.count_nonzero(lasting, axis=1) >= count)
        if not len(enough):
            return None
        return int(enough[0]), np.flatnonzero(lasting[enough[0]])

    def reserve(self, index: int, rows: list[int], need: Ints, length_s: float, kind: GpuKind | None) -> None:
        """Take `need` of `rows` from moment `index` on for `length_s`, and devices where it needs some."""
        until = self._moment(self.times[index] + length_s)
        for row in rows:
            self.free[index:until, :, row] -= need
            if kind is not None:
                lowest = self.device_free[index:until].min(axis=0)
                self.device_free[index:until, self.devices.choose(lowest, row, kind)] -= kind.milli

    def _moment(self, time_s: float) -> int:
        """The index of a moment, which is made when there is none; of the next one when there are many."""
        index = int(np.searchsorted(self.times, time_s))
        exists = index < len(self.times) and self.times[index] == time_s
        if exists or (index < len(self.times) and len(self.times) >= TIMES_MAX):
            return index
        self.times = np.concatenate((self.times[:index], [time_s], self.times[index:]))
        self.free = _repeated(self.free, index - 1)
        self.open = _repeated(self.open, index - 1)
        self.device_free = _repeated(self.device_free, index - 1)
        return index

    def _lasting_devices(self, kind: GpuKind, until: Ints) -> Ints:
        """At each moment, on each node: how many devices have room from then on for as long as it takes."""
        matching = self.devices.matching(kind)
        lasting = _lasting((self.device_free >= kind.milli) & matching, until)
        counts = np.zeros((len(self.times), self.free.shape[2]), dtype=np.int64)
        first = np.flatnonzero(np.diff(self.devices.row, prepend=-1))
        if len(first):
            counts[:, self.devices.row[first]] = np.add.reduceat(lasting, first, axis=1, dtype=np.int64)
        return counts


def _repeated(rows: NDArray[Any], index: int) -> NDArray[Any]:
    """`rows` with the one at `index` twice."""
    return np.concatenate((rows[: index + 1], rows[index:]))


def _lasting(free: Bools, until: Ints) -> Bools:
    """`free` at a moment and at all later ones before its `until`. Shapes: (moments, n), (moments,)."""
    moments = len(free)
    taken_at = np.where(free, moments, np.arange(moments)[:, None])
    next_taken = np.minimum.accumulate(taken_at[::-1], axis=0)[::-1]
    lasting: Bools = next_taken >= np.maximum(until, np.arange(1, moments + 1))[:, None]
    return lasting
