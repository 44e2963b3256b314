"""A job that a pass has placed: on which nodes and devices, and when it is expected to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from racksack_controller.core.events import Placed
from racksack_controller.core.placing.room import Room
from racksack_controller.core.policy import Policy
from racksack_controller.core.queue.waiting import Line, Waiting
from racksack_controller.core.rack.allocations import Hold
from racksack_controller.core.rack.amounts import MILLI
from racksack_controller.core.rack.rack import Floats, Ints, Rack
from racksack_controller.core.records import Allocation, Part
from racksack_jobspecs.resources import ResourceRequest


@dataclass
class Start:
    """One placement of the pass; a gang has several rows. Times are Unix seconds."""

    number: int
    line: Line
    rows: list[int]
    uuids: list[tuple[str, ...]]
    soft_end_s: float  # by prediction
    late_end_s: float  # by time limit
    why: str

    @property
    def movable(self) -> bool:
        """Whether the pass may still put it elsewhere: its node is all that it holds."""
        return len(self.rows) == 1 and self.line.kind is None

    def holds(self) -> list[Hold]:
        """What it takes of each node."""
        milli = self.line.kind.milli if self.line.kind else MILLI
        pairs = zip(self.rows, self.uuids, strict=True)
        return [Hold(row, self.line.need, uuids, milli) for row, uuids in pairs]

    def placed(self, rack: Rack, wants: ResourceRequest) -> Placed:
        """The event."""
        parts = [
            Part(
                rack.nodes[hold.row].name,
                Allocation(wants.cpus, wants.ram_bytes, hold.uuids, wants.disk_bytes, hold.milli),
            )
            for hold in self.holds()
        ]
        return Placed(self.number, parts[0].node, parts[0].allocation, self.why, tuple(parts[1:]))


def start(
    room: Room, policy: Policy, number: int, line: Line, rows: list[int], ends_s: tuple[float, float], why: str
) -> Start:
    """Take what a job needs on these nodes. `ends_s`: its end by prediction and by time limit."""
    uuids = [room.take(row, line, policy.rule) for row in rows]
    return Start(number, line, rows, uuids, ends_s[0], ends_s[1], why)


def length_s(waiting: Waiting, policy: Policy, index: int, *, hard: bool) -> float:
    """How long the jobs of a line are expected to run, or (hard) may run at most. Seconds."""
    limit, predicted = float(waiting.limit_s[index]), float(waiting.predicted_s(index))
    longest = policy.default_time_limit_s if limit < 0 else limit
    return longest if hard or predicted < 0 or not policy.predict else min(longest, predicted)


def lengths_s(waiting: Waiting, policy: Policy, lines: Ints, *, hard: bool) -> Floats:
    """`length_s` of many lines."""
    limit, predicted = waiting.limit_s[lines], waiting.predicted_s(lines)
    longest = np.where(limit < 0, policy.default_time_limit_s, limit)
    if hard or not policy.predict:
        return longest
    return np.where(predicted < 0, longest, np.minimum(longest, predicted))
