"""The devices of all nodes in flat arrays, so that one vector operation counts those that a job could use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.rack.amounts import MILLI, device_count, gpu_milli, names
from racksack_jobspecs.resources import Gpu, ResourceRequest

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class GpuKind(NamedTuple):
    """Which devices a job can use, how many on a node, and which part of each (thousandths)."""

    model: str | None
    vram_bytes: int
    devices: int
    milli: int


def gpu_kind(request: ResourceRequest) -> GpuKind | None:
    """The devices that a request needs, or None."""
    if request.gpus is None:
        return None
    wants = request.gpus
    return GpuKind(wants.model, wants.vram_bytes or 0, device_count(request), gpu_milli(request))


class Devices:
    """What every device has left, in thousandths. The devices of one node stand side by side, nodes in their order."""

    def __init__(self, per_node: Sequence[Sequence[Gpu]] = ()) -> None:
        self.nodes = 0
        self.row: Ints = np.zeros(0, dtype=np.int64)
        self.vram: Ints = np.zeros(0, dtype=np.int64)
        self.free: Ints = np.zeros(0, dtype=np.int64)
        self.gpus: list[Gpu] = []
        self.shares: Ints = np.zeros((3, 64), dtype=np.int64)  # held: device, place of the allocation, thousandths
        self.columns: Ints = np.zeros((0, 0), dtype=np.int64)  # (nodes, devices): where they stand; -1 is none
        self._model: Ints = np.zeros(0, dtype=np.int64)  # of each device: its place in `_models`
        self._models: dict[str, int] = {}
        self._index: dict[tuple[int, str], int] = {}
        self._share: dict[tuple[int, int], int] = {}  # of (device, place of the allocation): its column of `shares`
        self._unused = list(range(64))
        for gpus in per_node:
            self.append(gpus)

    def append(self, gpus: Sequence[Gpu]) -> None:
        """One more node has these devices, all free."""
        first, count = len(self.gpus), len(gpus)
        self.gpus += gpus
        self.row = np.append(self.row, np.full(count, self.nodes))
        self.vram = np.append(self.vram, np.array([gpu.vram_bytes for gpu in gpus], dtype=np.int64))
        self.free = np.append(self.free, np.full(count, MILLI))
        models = [self._models.setdefault(gpu.model, len(self._models)) for gpu in gpus]
        self._model = np.append(self._model, np.array(models, dtype=np.int64))
        self._index.update(((self.nodes, gpu.uuid), first + at) for at, gpu in enumerate(gpus))
        wider = max(0, count - self.columns.shape[1])
        self.columns = np.pad(self.columns, ((0, 1), (0, wider)), constant_values=-1)
        self.columns[self.nodes, :count] = np.arange(first, first + count)
        self.nodes += 1

    def parts(self, free: Ints, rows: Ints, kind: GpuKind | None) -> Ints:
        """What the devices of these nodes have left, (rows, devices); 0 where is none that the job can use."""
        columns = self.columns[rows]
        usable = columns >= 0 if kind is None else (columns >= 0) & self.matching(kind)[columns]
        return np.where(usable, free[columns], 0)

    def take(self, row: int, uuids: Sequence[str], milli: int, place: int) -> None:
        """Hold a part of devices for the allocation at `place`; a device that the node no longer has is passed over."""
        for index in self.find(row, uuids):
            self.free[index] -= milli
            if not self._unused:
                self._unused = list(range(self.shares.shape[1], 2 * self.shares.shape[1]))
                self.shares = np.concatenate([self.shares, np.zeros_like(self.shares)], axis=1)
            column = self._share[index, place] = self._unused.pop()
            self.shares[:, column] = index, place, milli

    def give_back(self, row: int, uuids: Sequence[str], milli: int, place: int) -> None:
        """End the allocation at `place`."""
        for index in self.find(row, uuids):
            self.free[index] += milli
            column = self._share.pop((index, place))
            self.shares[2, column] = 0
            self._unused.append(column)

    def find(self, row: int, uuids: Sequence[str]) -> list[int]:
        """Where these devices stand in the arrays."""
        return [self._index[row, uuid] for uuid in uuids if (row, uuid) in self._index]

    def matching(self, kind: GpuKind) -> Bools:
        """The devices of the right model and memory."""
        enough: Bools = self.vram >= kind.vram_bytes
        if kind.model is None:
            return enough
        good = np.array([names(kind.model, model) for model in self._models], dtype=np.bool_)
        return enough & good[self._model] if len(good) else enough

    def usable(self, free: Ints, kind: GpuKind, nodes: int) -> Ints:
        """On how many devices of each node the job could lie, when `free` is what they have left."""
        good = self.matching(kind) & (free >= kind.milli)
        return np.bincount(self.row[good], minlength=nodes)

    def choose(self, free: Ints, row: int, kind: GpuKind) -> list[int]:
        """The devices of a node to take: the fullest that still hold it, then those with the least memory."""
        good = np.flatnonzero((self.row == row) & self.matching(kind) & (free >= kind.milli))
        order = np.lexsort((good, self.vram[good], free[good]))
        return [int(index) for index in good[order][: kind.devices]]
