"""The rack as integer matrices: what each node has, what is held on it, and which nodes admit which jobs.

`State` keeps it up to date event by event, so that no pass of the scheduler has to walk over nodes or attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.rack.allocations import Allocations, NodeAllocation, Times
from racksack_controller.core.rack.amounts import DIMENSIONS, SLOTS, capacity, demand_of
from racksack_controller.core.rack.devices import Devices
from racksack_controller.core.rack.profile import Profile
from racksack_controller.core.records import Allocation, Node

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
PROFILES_MAX = 4  # a policy uses two: by prediction, and by time limit


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
        self.held: Ints = np.zeros((DIMENSIONS, 0), dtype=np.int64)
        self.usable: Bools = np.zeros(0, dtype=np.bool_)
        self.powered: Bools = np.zeros(0, dtype=np.bool_)  # False: off, or on its way there or back
        self.opened_s: Floats = np.zeros(0)  # since when a node has been on; 0 for those that are always on
        self.switched = False  # whether any node is switched
        self.opens_s: Floats = np.zeros(0)  # when a node that is not powered is expected to be; infinity: unknown
        self.cool_until: Floats = np.zeros(0)
        self.allocations = Allocations()
        self.inverse: Floats = np.zeros((SLOTS, 0))  # 1 / total; 0 where a node has nothing of the kind
        self.is_uniform = True  # whether all nodes have the same to give
        self.epoch = 0  # grows when other nodes or devices come into question for a job
        self._profiles: dict[tuple[float, bool], Profile] = {}
        self._devices = Devices()
        self._devices_changed = False
        self._admitted: dict[Admission, Bools] = {}

    @property
    def devices(self) -> Devices:
        """All devices; listed anew when an inventory has changed."""
        if self._devices_changed:
            self._devices.rebuild([node.gpus for node in self.nodes])
            for place, part in self.allocations.parts.items():
                self._devices.take(part.row, part.uuids, part.milli, place)
            self._devices_changed = False
        return self._devices

    def put_node(self, node: Node) -> None:
        """A node is new or has changed."""
        row = self.row.get(node.name)
        old = None if row is None else self.nodes[row]
        if row is None:
            row = self._append(node)
        self.nodes[row] = node
        self.usable[row] = node.usable and self.powered[row]
        self.cool_until[row] = node.cool_until_s
        total = np.array(capacity(node), dtype=np.int64)
        self.total[:, row] = total
        self.is_uniform = bool(np.all(self.total[:SLOTS] == total[:SLOTS, None]))
        self.inverse[:, row] = np.where(total[:SLOTS] > 0, 1.0 / np.maximum(total[:SLOTS], 1), 0.0)
        if old is None or (old.labels, old.partitions) != (node.labels, node.partitions):
            self._admitted = {}
            self.epoch += 1
        if old is None or old.gpus != node.gpus:
            self._devices_changed = True
            self.epoch += 1

    def put_power(self, name: str, *, powered: bool, opens_s: float, opened_s: float) -> None:
        """A node's power has changed; it has been on since `opened_s`, or is expected to take jobs at `opens_s`."""
        row = self.row[name]
        self.powered[row] = powered
        self.opens_s[row] = opens_s
        self.opened_s[row] = opened_s
        self.switched = bool(self.switched or opened_s)
        self.usable[row] = self.nodes[row].usable and powered

    def take(self, key: str, parts: Sequence[tuple[str, Allocation]], times: Times) -> None:
        """An attempt begins to hold allocations on nodes."""
        allocations = [
            NodeAllocation(self.row[node], demand_of(held), held.gpus, held.gpu_milli) for node, held in parts
        ]
        for place, part in zip(self.allocations.add(key, allocations, times), allocations, strict=True):
            self.held[:, part.row] += part.need
            if part.uuids and not self._devices_changed:
                self._devices.take(part.row, part.uuids, part.milli, place)

    def give_back(self, key: str) -> None:
        """An attempt holds nothing any more."""
        for place, part in self.allocations.remove(key):
            self.held[:, part.row] -= part.need
            if part.uuids and not self._devices_changed:
                self._devices.give_back(part.row, part.uuids, part.milli, place)

    def free(self, now: float) -> Ints:
        """A copy of what is free on each node; -1 in every dimension where a node takes no jobs."""
        closed = ~self.usable | (self.cool_until > now)
        free = self.total - self.held
        free[:, closed] = -1
        return free

    def profile(self, *, default_limit_s: float, predict: bool) -> Profile:
        """What will be free when; to be refreshed before use."""
        key = (default_limit_s, predict)
        if key not in self._profiles:
            if len(self._profiles) >= PROFILES_MAX:
                self._profiles.clear()
            self._profiles[key] = Profile(default_limit_s=default_limit_s, predict=predict)
        return self._profiles[key]

    def admitted(self, admission: Admission) -> Bools:
        """The nodes that these labels, names and exclusions admit."""
        mask = self._admitted.get(admission)
        if mask is None:
            mask = np.array([_admits(admission, node) for node in self.nodes], dtype=np.bool_)
            if len(self._admitted) >= 4096:
                self._admitted = {}
            self._admitted[admission] = mask
        return mask

    def _append(self, node: Node) -> int:
        row = len(self.nodes)
        self.row[node.name] = row
        self.nodes.append(node)
        column = np.zeros((DIMENSIONS, 1), dtype=np.int64)
        self.total = np.concatenate([self.total, column], axis=1)
        self.held = np.concatenate([self.held, column], axis=1)
        self.inverse = np.concatenate([self.inverse, np.zeros((SLOTS, 1))], axis=1)
        self.usable = np.append(self.usable, False)
        self.powered = np.append(self.powered, True)
        self.opens_s = np.append(self.opens_s, 0.0)
        self.opened_s = np.append(self.opened_s, 0.0)
        self.cool_until = np.append(self.cool_until, 0.0)
        return row


def _admits(admission: Admission, node: Node) -> bool:
    if admission.nodes and node.name not in admission.nodes:
        return False
    if admission.partition and admission.partition not in node.partitions:
        return False
    return node.name not in admission.exclude and set(admission.labels) <= set(node.labels)
