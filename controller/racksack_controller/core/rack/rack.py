"""The rack as integer matrices: what each node has, what is held on it, and which nodes admit which jobs.

`State` keeps it up to date event by event, so that no pass of the scheduler has to walk over nodes or attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.rack.allocations import Allocations, NodeAllocation, Times
from racksack_controller.core.rack.amounts import COMPARED, DIMENSIONS, SLOTS, capacity, demand_of, largest_job
from racksack_controller.core.rack.devices import Devices
from racksack_controller.core.records import Allocation, Node

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Admission(NamedTuple):
    """What a job says about the nodes that it may run on."""

    labels: tuple[str, ...]
    nodes: tuple[str, ...]
    exclude: tuple[str, ...]
    partition: str = ""


class Rack:
    """One row a node. The matrices have the shape (DIMENSIONS, nodes)."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.row: dict[str, int] = {}
        self.total: Ints = np.zeros((DIMENSIONS, 0), dtype=np.int64)
        self.largest: Ints = np.zeros((DIMENSIONS, 0), dtype=np.int64)  # what one job can have
        self.held: Ints = np.zeros((DIMENSIONS, 0), dtype=np.int64)
        self.usable: Bools = np.zeros(0, dtype=np.bool_)  # never those that others overflow to: see placing/overflow
        self.powered: Bools = np.zeros(0, dtype=np.bool_)  # False: off, or on its way there or back
        self.opened_s: Floats = np.zeros(0)  # since when a node has been on; 0 for those that are always on
        self.switched = False  # whether any node is switched
        self.opens_s: Floats = np.zeros(0)  # when a node that is not powered is expected to be; infinity: unknown
        self.cool_until: Floats = np.zeros(0)
        self.allocations = Allocations()
        self.inverse: Floats = np.zeros((SLOTS, 0))  # 1 / total; 0 where a node has nothing of the kind
        self.is_uniform = True  # whether all nodes have the same to give
        self.epoch = 0  # grows when other nodes or devices come into question for a job
        self.devices = Devices()
        self._labelled: dict[str, Bools] = {}  # by label: the nodes that have it
        self._in_partition: dict[str, Bools] = {}

    def put_node(self, node: Node) -> None:
        """A node is new or has changed. Raises OverflowError, before anything is changed, for one that is too large."""
        total = np.array(capacity(node), dtype=np.int64)
        largest = np.array(largest_job(node), dtype=np.int64)
        row = self.row.get(node.name)
        old = None if row is None else self.nodes[row]
        if row is None:
            row = self._append(node)
        self.nodes[row] = node
        self.usable[row] = node.usable and self.powered[row] and node.overflow is None
        self.cool_until[row] = node.cool_until_s
        self.total[:, row] = total
        self.largest[:, row] = largest
        self.is_uniform = bool(np.all(self.total[:SLOTS] == total[:SLOTS, None]))
        self.inverse[:, row] = np.where(total[:SLOTS] > 0, 1.0 / np.maximum(total[:SLOTS], 1), 0.0)
        if old is None or (old.labels, old.partitions) != (node.labels, node.partitions):
            _mark(self._labelled, node.labels, row, len(self.nodes))
            _mark(self._in_partition, node.partitions, row, len(self.nodes))
            self.epoch += 1
        if old is None or old.gpus != node.gpus:
            self._list_devices(row)
            self.epoch += 1

    def put_power(self, name: str, *, powered: bool, opens_s: float, opened_s: float) -> None:
        """A node's power has changed; it has been on since `opened_s`, or is expected to take jobs at `opens_s`."""
        row = self.row[name]
        self.powered[row] = powered
        self.opens_s[row] = opens_s
        self.opened_s[row] = opened_s
        self.switched = bool(self.switched or opened_s)
        self.usable[row] = self.nodes[row].usable and powered and self.nodes[row].overflow is None

    def take(self, key: str, parts: Sequence[tuple[str, Allocation]], times: Times) -> None:
        """An attempt begins to hold allocations on nodes. Raises KeyError, OverflowError before anything is changed."""
        allocations = [
            NodeAllocation(self.row[node], demand_of(held), held.gpus, held.gpu_milli) for node, held in parts
        ]
        np.array([part.need for part in allocations], dtype=np.int64)  # raises for what cannot be added up
        for place, part in zip(self.allocations.add(key, allocations, times), allocations, strict=True):
            self.held[:, part.row] += part.need
            if part.uuids:
                self.devices.take(part.row, part.uuids, part.milli, place)

    def give_back(self, key: str) -> None:
        """An attempt holds nothing any more."""
        for place, part in self.allocations.remove(key):
            self.held[:, part.row] -= part.need
            if part.uuids:
                self.devices.give_back(part.row, part.uuids, part.milli, place)

    def part_of(self, allocation: Allocation) -> float:
        """The dominant share of the whole rack that an allocation is: of the resource of which it takes most."""
        total = self.total[:COMPARED].sum(axis=1)
        need = np.array(demand_of(allocation)[:COMPARED])
        return float((need / np.maximum(total, 1)).max())

    def free(self, now: float) -> Ints:
        """A copy of what is free on each node; -1 in every dimension where a node takes no jobs."""
        closed = ~self.usable | (self.cool_until > now)
        free = self.total - self.held
        free[:, closed] = -1
        return free

    def admitted(self, admission: Admission) -> Bools:
        """The nodes that these labels, names and exclusions admit."""
        nodes = len(self.nodes)
        mask = np.ones(nodes, dtype=np.bool_)
        if admission.nodes:
            mask = self._named(admission.nodes)
        if admission.partition:
            mask &= self._in_partition.get(admission.partition, False)
        for label in admission.labels:
            mask &= self._labelled.get(label, False)
        if admission.exclude:
            mask &= ~self._named(admission.exclude)
        return mask

    def _named(self, names: Sequence[str]) -> Bools:
        mask = np.zeros(len(self.nodes), dtype=np.bool_)
        mask[[self.row[name] for name in names if name in self.row]] = True
        return mask

    def _list_devices(self, row: int) -> None:
        """A node is new, or has other devices than before."""
        gpus = self.nodes[row].gpus
        if row == self.devices.nodes:  # a new node has nothing allocated yet
            self.devices.append(gpus)
            return
        self.devices = Devices([node.gpus for node in self.nodes])
        for place, part in self.allocations.parts.items():
            self.devices.take(part.row, part.uuids, part.milli, place)

    def _append(self, node: Node) -> int:
        row = len(self.nodes)
        self.row[node.name] = row
        self.nodes.append(node)
        column = np.zeros((DIMENSIONS, 1), dtype=np.int64)
        self.total = np.concatenate([self.total, column], axis=1)
        self.largest = np.concatenate([self.largest, column], axis=1)
        self.held = np.concatenate([self.held, column], axis=1)
        self.inverse = np.concatenate([self.inverse, np.zeros((SLOTS, 1))], axis=1)
        self.usable = np.append(self.usable, False)
        self.powered = np.append(self.powered, True)
        self.opens_s = np.append(self.opens_s, 0.0)
        self.opened_s = np.append(self.opened_s, 0.0)
        self.cool_until = np.append(self.cool_until, 0.0)
        self.allocations.add_row()
        return row


def _mark(marked: dict[str, Bools], words: Sequence[str], row: int, nodes: int) -> None:
    """Note which words a node has; every mask has an entry for each of `nodes`."""
    for word, mask in marked.items():
        grown = np.append(mask, np.zeros(nodes - len(mask), dtype=np.bool_))
        grown[row] = False
        marked[word] = grown
    for word in words:
        marked.setdefault(word, np.zeros(nodes, dtype=np.bool_))[row] = True
