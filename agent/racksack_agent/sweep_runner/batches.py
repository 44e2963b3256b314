"""What is still to be computed on this node: chunks, cut into batches for workers.

A batch is sized to last a tenth of a second, so that results stream and no worker holds much when it dies; near the end
of what is known, batches shrink, so that all workers end together.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

BATCH_S = 0.1
BATCH_POINTS_MAX = 8192
_GROWTH_MAX = 8
_ALPHA = 0.3

Part = Tuple[Sequence[int], Optional[List[Dict[str, Any]]]]  # points, and their parameters where those were given


class Waiting(NamedTuple):
    """Points of a chunk that no worker has begun. `device`: the index of the GPU that they name, if any."""

    chunk: int
    run: int
    part: Part
    device: Optional[int] = None


class Batch:
    """Points that one worker has."""

    __slots__ = ("chunk", "device", "left", "number", "part")

    def __init__(self, number: int, waiting: Waiting) -> None:
        self.number = number
        self.chunk = waiting.chunk
        self.device = waiting.device
        self.part = waiting.part
        part = waiting.part
        self.left = len(part[0])  # points whose results have not come yet

    def message(self) -> Dict[str, Any]:
        """What the worker is sent."""
        points, values = self.part
        message: Dict[str, Any] = {"b": self.number, "c": self.chunk}
        if isinstance(points, range):
            message.update(lo=points.start, hi=points.stop)
        else:
            message["p"] = points
        if values is not None:
            message["v"] = values
        return message


class Speed:
    """How long a point takes here, as a moving average, and the size of a batch that follows from it."""

    def __init__(self) -> None:
        self.point_s = 0.0
        self._size = 1

    def learn(self, points: int, seconds: float) -> None:
        """A worker took `seconds` for so many points."""
        each_s = seconds / points
        self.point_s = each_s if not self.point_s else _ALPHA * each_s + (1 - _ALPHA) * self.point_s
        wanted = int(BATCH_S / self.point_s) if self.point_s > 0 else BATCH_POINTS_MAX
        self._size = max(1, min(wanted, self._size * _GROWTH_MAX, BATCH_POINTS_MAX))

    def batch_points(self, waiting: int, workers: int) -> int:
        """How many points the next batch has."""
        return max(1, min(self._size, -(-waiting // (2 * workers))))

    @property
    def is_quick(self) -> bool:
        """Whether a worker should find the next batch waiting: else a long point could wait behind another."""
        return 0 < self.point_s < BATCH_S / 4


class Queue:
    """The unstarted points, first come first served; what came back from a dead worker goes first."""

    def __init__(self) -> None:
        self._parts: Deque[Waiting] = deque()
        self.waiting = 0
        self.speed = Speed()
        self._last_batch = 0

    def add(self, new: Sequence[Waiting]) -> None:
        """The parts of a new chunk."""
        for one in new:
            self._parts.append(one)
            self.waiting += len(one.part[0])

    def put_back(self, batch: Batch, run: int, part: Part) -> None:
        """Points of a batch that a worker did not come to."""
        if part[0]:
            self._parts.appendleft(Waiting(batch.chunk, run, part, batch.device))
            self.waiting += len(part[0])

    def next_run(self) -> Optional[int]:
        """The run that the next batch is of; None when nothing waits."""
        return self._parts[0].run if self._parts else None

    def take(self, workers: int, device: Optional[int] = None) -> Optional[Batch]:
        """The next batch for a worker with a GPU of this index.

        What names another device is only taken when nothing else waits: no worker stays idle for a number in a list.
        """
        if not self._parts:
            return None
        size = self.speed.batch_points(self.waiting, workers)
        at = self._first_for(device)
        chosen = self._parts[at]
        del self._parts[at]
        points, values = chosen.part
        if len(points) > size:
            rest = values[size:] if values is not None else None
            self._parts.insert(at, chosen._replace(part=(points[size:], rest)))
            points, values = points[:size], values[:size] if values is not None else None
        self.waiting -= len(points)
        self._last_batch += 1
        return Batch(self._last_batch, chosen._replace(part=(points, values)))

    def _first_for(self, device: Optional[int]) -> int:
        run = self._parts[0].run
        for at, one in enumerate(self._parts):
            if one.run == run and one.device in (None, device):
                return at
        return 0

    def give_back(self, chunks: Sequence[int]) -> Dict[int, List[Sequence[int]]]:
        """Take the unstarted points of some chunks out of the queue."""
        found: Dict[int, List[Sequence[int]]] = {}
        kept: Deque[Waiting] = deque()
        for one in self._parts:
            if one.chunk in chunks:
                found.setdefault(one.chunk, []).append(one.part[0])
                self.waiting -= len(one.part[0])
            else:
                kept.append(one)
        self._parts = kept
        return found


def waiting_of(number: int, chunk: Dict[str, Any]) -> List[Waiting]:
    """The points of a chunk file: ranges, or numbers with or without parameters; by the device that they name."""
    run = chunk.get("run", 0)
    if "ranges" in chunk:
        return [Waiting(number, run, (range(low, high), None)) for low, high in chunk["ranges"]]
    points, values, devices = list(chunk["points"]), chunk.get("values"), chunk.get("devices")
    if values is None or devices is None:
        return [Waiting(number, run, (points, values))]
    by_device: Dict[Optional[int], Tuple[List[int], List[Dict[str, Any]]]] = {}
    for point, value, device in zip(points, values, devices):
        own = by_device.setdefault(device, ([], []))
        own[0].append(point)
        own[1].append(value)
    return [Waiting(number, run, part, device) for device, part in by_device.items()]


def ranges_of(groups: Sequence[Sequence[int]]) -> List[List[int]]:
    """Points as ranges [from, up to but without]."""
    found: List[List[int]] = []
    for group in groups:
        if isinstance(group, range):
            found.append([group.start, group.stop])
            continue
        for point in group:
            if found and found[-1][1] == point:
                found[-1][1] = point + 1
            else:
                found.append([point, point + 1])
    return found
