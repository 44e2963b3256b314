"""What a node tells about an attempt; the controller's side of the agent's AttemptReport."""

from __future__ import annotations

import msgspec


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one attempt on its node. Times are Unix seconds on the node's clock."""

    attempt: str
    state: str  # preparing | prepared (waits for the go) | running | ended
    boot_id: str = ""
    node_pid: int | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None
    prepare_s: float | None = None
    outcome: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    ram_peak_bytes: int | None = None
    cpu_s: float | None = None
    gpu_uuids: tuple[str, ...] = ()
    cpu_ids: tuple[int, ...] = ()
    output_bytes: int = 0
    output_files: int = 0
    dropped: tuple[str, ...] = ()
    at_fault: str = "job"  # job | node: of a prepare_failed, whether another node may do better
