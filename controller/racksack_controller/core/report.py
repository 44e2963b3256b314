"""What a node reports about an attempt; the controller's side of the agent's AttemptReport.

Users' jobs run as the same account as the agent, so any of them can make its node say anything. Words and counts that
decisions rest on are refused when they are not what they should be; measured figures are cleaned (see `bounds`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from racksack_jobspecs.bounds import TIME_S_MAX, Bytes, Count, Name, cut, measured
from racksack_jobspecs.states import FINAL, JobState

DROPPED_MAX = 101  # the agent names 100 and adds "and more"
DROPPED_CHARS_MAX = 500
LIST_MAX = 1024  # devices or cores of one attempt
ATTEMPT_KEY = r"^[0-9]{1,15}\.[0-9]{1,9}(@[0-9]{1,9})?\Z"  # $ would let a line end pass

AttemptKey = Annotated[str, Meta(pattern=ATTEMPT_KEY)]
Digest = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]


class ReportState(StrEnum):
    """Where an attempt is on its node."""

    PREPARING = "preparing"
    PREPARED = "prepared"  # it could start, and waits for the go that all ranks of its gang get together
    RUNNING = "running"
    ENDED = "ended"
    UNREADABLE = "unreadable"  # made by the controller: the node has it, but what it reports about it makes no sense


class LeftFile(msgspec.Struct, frozen=True):
    """A file that did not come back and stayed on the node."""

    path: str
    bytes: int
    why: str = "new"  # max_output: it did not fit | new: it is new in the working folder, and not small


class SavedReport(msgspec.Struct, frozen=True, kw_only=True):
    """The newest checkpoint of an attempt on its node; number 0: none yet. `problem`: why the last try took none."""

    number: Count
    digest: Digest = ""
    files: Count = 0
    bytes: Bytes = 0
    taken_at_s: float = 0.0
    hurries: bool = False  # the program was warned: it is to be brought at once
    problem: str = ""

    def __post_init__(self) -> None:
        """Clean what is measured or shown. Raises ValueError for a checkpoint without a digest."""
        if self.number and not self.digest:
            raise ValueError("the checkpoint has no digest")
        force_setattr(self, "taken_at_s", measured(self.taken_at_s, 0, TIME_S_MAX) or 0.0)
        force_setattr(self, "problem", cut(self.problem))


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one attempt on its node. Times are Unix seconds on the node's clock; None: not known."""

    attempt: AttemptKey
    state: ReportState
    epoch: Name | None = ""  # as it was launched with; None: its record is damaged
    boot_id: Name = ""
    node_pid: int | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None
    prepare_s: float | None = None
    outcome: JobState | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    ram_peak_bytes: int | None = None
    cpu_s: float | None = None
    gpu_uuids: tuple[str, ...] = ()
    cpu_ids: tuple[int, ...] = ()
    output_bytes: Bytes = 0
    output_files: Count = 0
    output_digest: Digest = ""  # of the returned files (`nodes/output_digest.py`); empty: the node did not compute it
    dropped: tuple[str, ...] = ()
    left: tuple[LeftFile, ...] = ()
    left_files: Count = 0
    left_bytes: Bytes = 0
    left_for_s: float | None = None
    at_fault: Literal["job", "node"] = "job"  # of a prepare_failed: whether another node may do better
    checkpoint: SavedReport | None = None

    def __post_init__(self) -> None:
        """Clean what is measured or shown. Raises ValueError for an outcome that is none."""
        if self.outcome is not None and self.outcome not in FINAL:
            raise ValueError(f"{self.outcome} is not an outcome")
        for name, low, high in _MEASURED:
            value = getattr(self, name)
            if value is not None and measured(value, low, high) is None:
                force_setattr(self, name, None)
        force_setattr(self, "reason", cut(self.reason))
        if self.dropped:
            force_setattr(self, "dropped", tuple(cut(name, DROPPED_CHARS_MAX) for name in self.dropped[:DROPPED_MAX]))
        if self.left:
            force_setattr(self, "left", tuple(_cut_left(one) for one in self.left[:DROPPED_MAX]))
        if self.gpu_uuids:
            force_setattr(self, "gpu_uuids", tuple(cut(uuid, 200) for uuid in self.gpu_uuids[:LIST_MAX]))
        if self.cpu_ids:
            force_setattr(self, "cpu_ids", tuple(core for core in self.cpu_ids[:LIST_MAX] if 0 <= core < 2**20))


_MEASURED = (
    ("node_pid", 0, 2**31),
    ("started_at_s", 0, TIME_S_MAX),
    ("ended_at_s", 0, TIME_S_MAX),
    ("prepare_s", 0, TIME_S_MAX),
    ("left_for_s", 0, TIME_S_MAX),
    ("exit_code", -(2**31), 2**32),
    ("signal", 0, 1024),
    ("ram_peak_bytes", 0, 2**60),
    ("cpu_s", 0, TIME_S_MAX),
)


def _cut_left(one: LeftFile) -> LeftFile:
    return LeftFile(cut(one.path, DROPPED_CHARS_MAX), max(0, one.bytes), cut(one.why, 20))


def unreadable(attempt: str, sentence: str) -> AttemptReport:
    """The report of an attempt about which its node says what makes no sense."""
    return AttemptReport(attempt=attempt, state=ReportState.UNREADABLE, reason=sentence)
