"""The working copy of the rack that a pass fills: which classes have room, on which nodes, and what is taken."""

from __future__ import annotations

import numpy as np

from racksack_controller.core.policy import DEFAULT, Policy, Rule
from racksack_controller.core.queue.job_queue import JobClass, JobQueue
from racksack_controller.core.rack.amounts import COMPARED, GPUS, MILLI, SLOTS
from racksack_controller.core.rack.fill_order import FillOrder
from racksack_controller.core.rack.fragmentation import Usual, growth
from racksack_controller.core.rack.node_rules import COSTS
from racksack_controller.core.rack.rack import Bools, Floats, Ints, Rack

NODES_AT_ONCE = 64
CLASSES_AT_ONCE = 256
AVOIDED = 1e6
RANKED = 10.0  # more than any cost
TIE = 1e-3
SHORTLIST = 16  # nodes on which the growth of fragmentation is worked out


class FreeCapacity:
    """What is free on each node while a pass goes on."""

    def __init__(self, rack: Rack, now: float, usual: list[Usual], policy: Policy = DEFAULT) -> None:
        self.rack = rack
        self.fill_order = FillOrder(rack, now, policy)
        self.free = rack.free(now)
        self.devices = rack.devices
        self.device_free = self.devices.free.copy()
        self.usual = usual
        self._column: dict[int, int] = {}  # of a node that was just found best: the device to share
        self._has_devices = self.rack.total[GPUS] > 0

    def classes_with_room(
        self, queue: JobQueue, classes: Ints, free: Ints, rows: Ints | None = None, *, ranks: bool = True
    ) -> Bools:
        """For each of `classes` whether there is room in `free`: for all ranks of a gang, or for one of them.

        `rows`: on these nodes alone.
        """
        rows = np.arange(free.shape[1]) if rows is None else rows
        return self._classes_with_room(queue, classes, free, self.device_free, rows, ranks=ranks)

    def classes_attainable(self, queue: JobQueue, classes: Ints, total: Ints) -> Bools:
        """Whether there would be room if nothing ran; `total` is what the nodes have."""
        nobody = np.full_like(self.device_free, MILLI)
        return self._classes_with_room(queue, classes, total, nobody, np.arange(total.shape[1]), ranks=True)

    def _classes_with_room(
        self, queue: JobQueue, classes: Ints, free: Ints, devices: Ints, rows: Ints, *, ranks: bool
    ) -> Bools:
        found = np.zeros(len(classes), dtype=np.bool_)
        if not len(classes):
            return found
        open_rows = rows[free[SLOTS, rows] >= 1]
        if not len(open_rows):
            return found
        need = queue.need.take(classes, axis=1)
        most = free[:, open_rows].max(axis=1)
        attainable = np.flatnonzero(np.all(need <= most[:, None], axis=0))
        groups = queue.group[classes[attainable]]
        for group in np.flatnonzero(np.bincount(groups)):
            members = attainable[groups == group]
            admission, kind = queue.groups[group]
            admitted = open_rows[self.rack.admitted(admission)[open_rows]]
            columns = free[:, admitted]
            wants = need[:, members]
            if kind is not None:
                usable = self.devices.usable(devices, kind, free.shape[1])[admitted]
                columns[GPUS] = np.minimum(usable, columns[GPUS] // kind.milli)
                wants[GPUS] = kind.devices
            gang = queue.gang[classes[members]]
            if ranks and np.any(gang > 1):
                found[members] = _columns_that_hold(columns, wants) >= gang
            else:
                found[members] = _some_column_holds(columns, wants)
        return found

    def fits(self, job_class: JobClass) -> Bools:
        """The nodes that could take one rank of a class's job now."""
        free = self.free
        fits: Bools = (free[SLOTS] >= 1) & self.rack.admitted(job_class.admission)
        for dimension, wants in enumerate(job_class.need[:SLOTS]):
            if wants:
                fits &= free[dimension] >= wants
        if job_class.kind is not None:
            fits &= self.devices.usable(self.device_free, job_class.kind, free.shape[1]) >= job_class.kind.devices
        return fits

    def best(self, job_class: JobClass, rows: Ints, count: int, rule: Rule, ends_s: float) -> list[int]:
        """The `count` nodes of `rows` on which the job costs least; those where it has failed before come last.

        `ends_s`: when it is expected to end (Unix seconds).
        """
        self._column = {}
        if len(rows) == 1:
            return [int(rows[0])]
        rows = self._without_devices_if_possible(job_class, rows, count)
        need = np.array(job_class.need, dtype=np.int64)
        inverse = self.rack.inverse[:COMPARED, rows]
        costs = COSTS[rule](self.free[:COMPARED, rows] * inverse, need[:COMPARED, None] * inverse)
        if rule is Rule.FRAGMENTATION and shares_device(job_class) and self.usual:
            shortlist = np.argsort(costs, kind="stable")[: max(SHORTLIST, count)]
            rows, costs = rows[shortlist], costs[shortlist]
            added, columns = self._growth(job_class, need, rows)
            self._column = dict(zip(rows.tolist(), columns.tolist(), strict=True))
            costs = added + TIE * costs
        if self.rack.switched and rule is not Rule.FIRST_FIT:
            costs = costs + RANKED * self.fill_order.ranks(rows, ends_s)
        if job_class.avoid:
            avoided = [self.rack.row[name] for name in job_class.avoid if name in self.rack.row]
            costs = costs + AVOIDED * np.isin(rows, avoided)
        if count == 1:
            return [int(rows[costs.argmin()])]
        return [int(row) for row in rows[np.argsort(costs, kind="stable")[:count]]]

    def take(self, row: int, job_class: JobClass, rule: Rule) -> tuple[str, ...]:
        """Take what one rank needs of a node; the uuids of its devices."""
        chosen: list[int] = []
        need = np.array(job_class.need, dtype=np.int64)
        if job_class.kind is not None:
            chosen = self.devices.choose(self.device_free, row, job_class.kind)
            if rule is Rule.FRAGMENTATION and shares_device(job_class) and self.usual:
                if row not in self._column:
                    self._column[row] = int(self._growth(job_class, need, np.array([row]))[1][0])
                chosen = [int(self.devices.columns[row, self._column.pop(row)])]
            self.device_free[chosen] -= job_class.kind.milli
        self.free[:, row] -= need
        return tuple(self.devices.gpus[index].uuid for index in chosen)

    def _without_devices_if_possible(self, job_class: JobClass, rows: Ints, count: int) -> Ints:
        """A job that needs no device leaves the nodes that have some to others."""
        if job_class.kind is not None or not len(self.devices.gpus):
            return rows
        plain = rows[~self._has_devices[rows]]
        return plain if len(plain) >= count else rows

    def _growth(self, job_class: JobClass, need: Ints, rows: Ints) -> tuple[Floats, Ints]:
        parts = self.devices.parts(self.device_free, rows, job_class.kind)
        added, column = growth(self.free[:, rows], parts, need, job_class.kind, self.usual)
        return added / MILLI, column


def _some_column_holds(free: Ints, need: Ints) -> Bools:
    """For each column of `need` whether a column of `free` is at least as large in every dimension.

    Nodes too small for the smallest wish in any dimension are left out; the emptiest nodes come first and classes that
    have found room drop out, so that the whole comparison is seldom made.
    """
    found = np.zeros(need.shape[1], dtype=np.bool_)
    free = free[:, np.all(free >= need.min(axis=1)[:, None], axis=0)]
    free = free[:, np.argsort(-free[0], kind="stable")]
    left = np.arange(need.shape[1])
    for start in range(0, free.shape[1], NODES_AT_ONCE):
        block = free[:, start : start + NODES_AT_ONCE]
        asked = left[np.all(need[:, left] <= block.max(axis=1)[:, None], axis=0)]
        holds = np.ones((len(asked), block.shape[1]), dtype=np.bool_)
        for wants, has in zip(need[:, asked], block, strict=True):
            holds &= wants[:, None] <= has
        found[asked[holds.any(axis=1)]] = True
        left = left[~found[left]]
        if not len(left):
            break
    return found


def _columns_that_hold(free: Ints, need: Ints) -> Ints:
    """For each column of `need` how many columns of `free` are at least as large in every dimension."""
    counts = np.zeros(need.shape[1], dtype=np.int64)
    for start in range(0, need.shape[1], CLASSES_AT_ONCE):
        some = slice(start, start + CLASSES_AT_ONCE)
        holds = np.ones((len(counts[some]), free.shape[1]), dtype=np.bool_)
        for wants, has in zip(need[:, some], free, strict=True):
            holds &= wants[:, None] <= has
        counts[some] = holds.sum(axis=1)
    return counts


def shares_device(job_class: JobClass) -> bool:
    """Whether the jobs of a class leave a part of their device to others."""
    return job_class.kind is not None and job_class.kind.milli < MILLI
