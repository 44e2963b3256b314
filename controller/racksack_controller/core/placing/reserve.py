"""Making a reservation: the earliest start of a job that has to wait, from what runs and what was just placed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from racksack_controller.core.placing.backfill import (
    Releases,
    Reservation,
    device_moments,
    first_moments,
    ready_moments,
    spare_at,
)
from racksack_controller.core.placing.conservative_plan import Parts
from racksack_controller.core.placing.free_capacity import FreeCapacity
from racksack_controller.core.placing.placement import Placement
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.job_queue import JobClass
from racksack_controller.core.rack.amounts import GPUS, SLOTS
from racksack_controller.core.rack.devices import GpuKind
from racksack_controller.core.rack.profile import Profiles
from racksack_controller.core.rack.rack import Bools, Floats, Ints, Rack

FEW = 200  # nodes that are looked up one by one
FIRST_LOOK = 32  # nodes
NOWHERE: Ints = np.zeros(0, dtype=np.int64)


class Outlook:
    """What will be free when, as a pass sees it. `starts` are the placements of the pass."""

    def __init__(
        self,
        capacity: FreeCapacity,
        now: float,
        policy: Policy,
        placements: Sequence[Placement] = (),
        profiles: Profiles | None = None,
    ) -> None:
        self.capacity = capacity
        self.rack: Rack = capacity.rack
        self.now = now
        self.policy = policy
        self._profiles = Profiles() if profiles is None else profiles
        self.taken = [
            (allocation, one.soft_end_s, one.late_end_s) for one in placements for allocation in one.allocations()
        ]

    def reserve(self, job: int, job_class: JobClass, *, hard: bool) -> Reservation | None:
        """Where and when the job will start at the earliest; None when its nodes are not expected to be there."""
        need = np.array(job_class.need, dtype=np.int64)
        rows = self.rack.admitted(job_class.admission) & np.all(self.rack.total >= need[:, None], axis=0)
        predict = self.policy.predict and not hard
        limit_s = self.policy.default_time_limit_s
        profile = self._profiles.at(self.rack, self.now, default_limit_s=limit_s, predict=predict)
        moments = np.maximum(profile.first_moments(self.rack, need, self.now), self.opens_s())
        moments[~rows] = np.inf
        touched = np.zeros(len(rows), dtype=np.bool_)  # nodes on which this pass has placed something
        releases: Releases | None = None
        if self.taken:
            touched[[part.row for part, _, _ in self.taken]] = True
            releases = self.releases(touched & rows, predict=predict)
            moments[touched] = first_moments(releases, touched & rows, need, self.now)[touched]
        if len(moments) < job_class.gang:
            return None
        if job_class.kind is not None:
            moments = self._with_devices(moments, job_class.kind, job_class.gang, predict=predict)
        at_s = float(np.partition(moments, job_class.gang - 1)[job_class.gang - 1])
        if not np.isfinite(at_s):
            return None
        chosen = [int(row) for row in np.flatnonzero(moments <= at_s)[: job_class.gang]]
        columns = [
            profile.free_at(self.rack, row, at_s, self.now)
            if releases is None or not touched[row]
            else spare_at(releases, row, at_s)
            for row in chosen
        ]
        spare = np.stack(columns, axis=1) - need[:, None]
        if job_class.kind is not None:
            spare[GPUS] = 0
        return Reservation(job, at_s, chosen, spare, hard)

    def attainable(self) -> Ints:
        """What each node has in all; -1 where it is not known when it will take jobs."""
        return np.where(np.isfinite(self.opens_s()), self.rack.total, -1)

    def releases(self, rows: Bools, *, predict: bool) -> Releases:
        """What `rows` have free and what will be given back there."""
        allocations = self.rack.allocations
        if np.count_nonzero(rows) < FEW:
            places = np.concatenate([NOWHERE, *(allocations.places_on(int(row)) for row in np.flatnonzero(rows))])
        else:
            places = np.flatnonzero(allocations.row >= 0)
            places = places[rows[allocations.row[places]]]
        ends = self._ends(places, predict=predict)
        row, need = allocations.row[places], allocations.need[:, places]
        new = [(allocation, soft if predict else late) for allocation, soft, late in self.taken if rows[allocation.row]]
        if new:
            row = np.concatenate([row, np.array([allocation.row for allocation, _ in new], dtype=np.int64)])
            need = np.concatenate(
                [need, np.array([allocation.need for allocation, _ in new], dtype=np.int64).T], axis=1
            )
            ends = np.concatenate([ends, np.array([end for _, end in new])])
        return Releases(self._free(), self.opens_s(), row, need, ends)

    def _free(self) -> Ints:
        """What is free, also on nodes that take no jobs just now."""
        closed = self.capacity.free[SLOTS] < 0
        return np.where(closed, self.rack.total - self.rack.held, self.capacity.free)

    def device_parts(self, *, predict: bool) -> Parts:
        """What running attempts hold of devices, and until when."""
        shares = self.capacity.devices.shares
        device, place, milli = shares[:, shares[2] > 0]
        return Parts(device, milli, self._ends(place, predict=predict))

    def opens_s(self) -> Floats:
        """When each node takes jobs: now, when it has cooled, or is expected to have booted; infinity: unknown."""
        opens = np.maximum(self.rack.cool_until, self.now)
        expected = np.where(self.rack.powered, np.inf, np.maximum(self.rack.opens_s, opens))
        return np.where(self.rack.usable, opens, expected)

    def _with_devices(self, moments: Floats, kind: GpuKind, gang: int, *, predict: bool) -> Floats:
        """`moments`, put off until there are devices for the job as well; infinity for nodes that are later anyway.

        A few nodes are looked at, the soonest first, and more only as long as one of them might come into question.
        """
        order = np.argsort(moments, kind="stable")
        looked_at = FIRST_LOOK
        while True:
            some = order[:looked_at]
            later = np.full(len(moments), np.inf)
            later[some] = np.maximum(moments, self._device_moments(kind, some, predict=predict))[some]
            at_s = np.partition(later, gang - 1)[gang - 1]
            if looked_at >= len(order) or moments[order[looked_at]] > at_s:
                return later
            looked_at *= 8

    def _device_moments(self, kind: GpuKind, rows: Ints, *, predict: bool) -> Floats:
        """For each of `rows` when it has as many devices for the job as `kind` asks for; infinity for other nodes."""
        devices, free = self.capacity.devices, self.capacity.device_free
        if not len(devices.row):
            return np.full(len(self.rack.nodes), np.inf)
        wanted = np.zeros(len(self.rack.nodes), dtype=np.bool_)
        wanted[rows] = True
        wanted = wanted[devices.row] & devices.matching(kind)
        shares = devices.shares
        device, place, given = shares[:, (shares[2] > 0) & wanted[shares[0]]]
        ends = self._ends(place, predict=predict)
        taken = [
            (index, allocation.milli, soft if predict else late)
            for allocation, soft, late in self.taken
            for index in devices.find(allocation.row, allocation.uuids)
        ]
        if taken:
            of, milli, end = zip(*taken, strict=True)
            device, given = np.append(device, of), np.append(given, milli)
            ends = np.append(ends, end)
        later = ready_moments(free, kind.milli, device, given, ends)
        ready = np.where(free >= kind.milli, self.now, later)
        return device_moments(ready, devices.row, kind, wanted, len(self.rack.nodes))

    def _ends(self, places: Ints, *, predict: bool) -> Floats:
        default = self.policy.default_time_limit_s
        return self.rack.allocations.ends(places, self.now, default_limit_s=default, predict=predict)
