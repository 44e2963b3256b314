"""Making a reservation: the earliest start of a job that has to wait, from what runs and what was just placed."""

from __future__ import annotations

import numpy as np

from racksack_controller.core.amounts import GPUS, SLOTS
from racksack_controller.core.backfill import Guard, Releases, device_moments, first_moments, spare_at
from racksack_controller.core.devices import GpuKind
from racksack_controller.core.policy import Policy
from racksack_controller.core.rack import Bools, Floats, Ints, Rack
from racksack_controller.core.room import Room
from racksack_controller.core.starts import Start
from racksack_controller.core.waiting import Line


class Outlook:
    """What will be free when, as a pass sees it. `starts` are the placements of the pass."""

    def __init__(self, room: Room, now: float, policy: Policy, starts: list[Start]) -> None:
        self.room = room
        self.rack: Rack = room.rack
        self.now = now
        self.policy = policy
        self.taken = [(hold, one.soft_end_s, one.late_end_s) for one in starts for hold in one.holds()]

    def reserve(self, job: int, line: Line, *, hard: bool) -> Guard | None:
        """Where and when the job will start at the earliest; None when its nodes are not expected to be there."""
        need = np.array(line.need, dtype=np.int64)
        rows = self.rack.admitted(line.admission) & np.all(self.rack.total >= need[:, None], axis=0)
        predict = self.policy.predict and not hard
        releases = self.releases(rows, predict=predict)
        moments = first_moments(releases, rows, need, self.now)
        if line.kind is not None:
            moments = np.maximum(moments, self._device_moments(line.kind, predict=predict))
        if len(moments) < line.gang:
            return None
        at_s = float(np.partition(moments, line.gang - 1)[line.gang - 1])
        if not np.isfinite(at_s):
            return None
        chosen = [int(row) for row in np.flatnonzero(moments <= at_s)[: line.gang]]
        spare = spare_at(releases, chosen, need, at_s)
        if line.kind is not None:
            spare[GPUS] = 0
        return Guard(job, at_s, chosen, spare, hard)

    def releases(self, rows: Bools, *, predict: bool) -> Releases:
        """What `rows` have free and what will be given back there."""
        holds = self.rack.holds
        places = np.flatnonzero(holds.row >= 0)
        places = places[rows[holds.row[places]]]
        ends = self._ends(places, predict=predict)
        row, need = holds.row[places], holds.need[:, places]
        new = [(hold, soft if predict else late) for hold, soft, late in self.taken if rows[hold.row]]
        if new:
            row = np.concatenate([row, np.array([hold.row for hold, _ in new], dtype=np.int64)])
            need = np.concatenate([need, np.array([hold.need for hold, _ in new], dtype=np.int64).T], axis=1)
            ends = np.concatenate([ends, np.array([end for _, end in new])])
        return Releases(self._free(), self._opens_s(), row, need, ends)

    def _free(self) -> Ints:
        """What is free, also on nodes that take no jobs just now."""
        closed = self.room.free[SLOTS] < 0
        return np.where(closed, self.rack.total - self.rack.held, self.room.free)

    def _opens_s(self) -> Floats:
        """When each node takes jobs: now, when it has cooled, or when it is expected to have booted."""
        opens = np.maximum(self.rack.cool_until, self.now)
        expected = np.where(self.rack.powered, np.inf, np.maximum(self.rack.opens_s, opens))
        return np.where(self.rack.usable, opens, expected)

    def _device_moments(self, kind: GpuKind, *, predict: bool) -> Floats:
        """For each node when it has as many devices for the job as `kind` asks for."""
        devices, free = self.room.devices, self.room.device_free
        matching = devices.matching(kind)
        ready = np.where(free >= kind.milli, self.now, np.inf)
        busy = np.flatnonzero(matching & (free < kind.milli))
        sole = busy[devices.sole[busy] >= 0]
        ready[sole] = self._ends(devices.sole[sole], predict=predict)
        taken = self._taken_devices(predict=predict)
        for index in busy[(devices.sole[busy] < 0) | np.isin(busy, list(taken))].tolist():
            ready[index] = self._ready(index, kind, taken.get(index, []), predict=predict)
        return device_moments(ready, devices.row, kind, matching, len(self.rack.nodes))

    def _ready(self, index: int, kind: GpuKind, taken: list[tuple[float, int]], *, predict: bool) -> float:
        """When a device that several jobs hold has enough left."""
        holders = self.room.devices.holders[index]
        ends = self._ends(np.array(list(holders), dtype=np.int64), predict=predict)
        free = int(self.room.device_free[index])
        for end_s, milli in sorted([*zip(ends.tolist(), holders.values(), strict=True), *taken]):
            free += milli
            if free >= kind.milli:
                return float(end_s)
        return float("inf")

    def _taken_devices(self, *, predict: bool) -> dict[int, list[tuple[float, int]]]:
        """For each device that this pass has given away: when which part of it is given back."""
        taken: dict[int, list[tuple[float, int]]] = {}
        for hold, soft, late in self.taken:
            for index in self.room.devices.find(hold.row, hold.uuids):
                taken.setdefault(index, []).append((soft if predict else late, hold.milli))
        return taken

    def _ends(self, places: Ints, *, predict: bool) -> Floats:
        default = self.policy.default_time_limit_s
        return self.rack.holds.ends(places, self.now, default_limit_s=default, predict=predict)
