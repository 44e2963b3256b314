"""The devices of all nodes in flat arrays, so that one vector operation counts those that a job could use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from racksack_controller.core.rack.amounts import MILLI, device_count, gpu_milli, matches
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
    """What every device has left, in thousandths."""

    def __init__(self) -> None:
        self.row: Ints = np.zeros(0, dtype=np.int64)
        self.vram: Ints = np.zeros(0, dtype=np.int64)
        self.free: Ints = np.zeros(0, dtype=np.int64)
        self.gpus: list[Gpu] = []
        self.shares: Ints = np.zeros(
            (3, 64), dtype=np.int64
        )  # what is held: device, place of the allocation, thousandths
        self.columns: Ints = np.zeros((0, 0), dtype=np.int64)  # (nodes, devices): where they stand; -1 is none
        self._index: dict[tuple[int, str], int] = {}
        self._matching: dict[tuple[str | None, int], Bools] = {}
        self._share: dict[tuple[int, int], int] = {}  # of (device, place of the allocation): its column of `shares`
        self._unused: list[int] = []

    def rebuild(self, per_node: Sequence[tuple[Gpu, ...]]) -> None:
        """Forget everything and list the devices of these nodes, all free."""
        self.gpus = [gpu for gpus in per_node for gpu in gpus]
        self.row = np.repeat(np.arange(len(per_node)), [len(gpus) for gpus in per_node])
        self.vram = np.array([gpu.vram_bytes for gpu in self.gpus], dtype=np.int64)
        self.free = np.full(len(self.gpus), MILLI, dtype=np.int64)
        self._index = {(int(row), gpu.uuid): i for i, (row, gpu) in enumerate(zip(self.row, self.gpus, strict=True))}
        self._matching = {}
        self.shares = np.zeros((3, 64), dtype=np.int64)
        self._share, self._unused = {}, list(range(64))
        most = max((len(gpus) for gpus in per_node), default=0)
        self.columns = np.full((len(per_node), most), -1, dtype=np.int64)
        for index, row in enumerate(self.row):
            self.columns[row, index - np.searchsorted(self.row, row)] = index

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
        key = (kind.model, kind.vram_bytes)
        if key not in self._matching:
            found = [matches(kind.model, kind.vram_bytes, gpu) for gpu in self.gpus]
            self._matching[key] = np.array(found, dtype=np.bool_)
        return self._matching[key]

    def usable(self, free: Ints, kind: GpuKind, nodes: int) -> Ints:
        """On how many devices of each node the job could lie, when `free` is what they have left."""
        good = self.matching(kind) & (free >= kind.milli)
        return np.bincount(self.row[good], minlength=nodes)

    def choose(self, free: Ints, row: int, kind: GpuKind) -> list[int]:
        """The devices of a node to take: the fullest that still hold it, then those with the least memory."""
        good = np.flatnonzero((self.row == row) & self.matching(kind) & (free >= kind.milli))
        order = np.lexsort((good, self.vram[good], free[good]))
        return [int(index) for index in good[order][: kind.devices]]
