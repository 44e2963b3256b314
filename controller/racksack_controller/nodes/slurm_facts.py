"""What an agent tells of the cluster on whose login node it is, with bounds."""

from __future__ import annotations

import msgspec
from msgspec.structs import force_setattr

from racksack_jobspecs.bounds import Bytes, Count, Name, cut

_SHOWN_MAX = 500


class Canary(msgspec.Struct, frozen=True):
    """What became of a small job: where it ran, or what went wrong."""

    ok: bool
    problem: str = ""
    host: str = ""
    python: str = ""
    skew_s: float = 0.0

    def __post_init__(self) -> None:
        """Cut what is shown."""
        for name in ("problem", "host", "python"):
            force_setattr(self, name, cut(getattr(self, name), _SHOWN_MAX))


class SlurmPartitionFacts(msgspec.Struct, frozen=True):
    """A partition as sinfo shows it."""

    name: Name
    nodes: Count
    cpus: Count
    node_cpus: Count
    node_ram_bytes: Bytes
    gpus: dict[Name, Count]
    limit_s: float | None
    state: Name


class SlurmFacts(msgspec.Struct, frozen=True):
    """A cluster as its login node shows it."""

    versions: dict[Name, str]
    partitions: tuple[SlurmPartitionFacts, ...]
    problems: tuple[str, ...]
    accounting: bool
    canary: Canary
    no_accounting: str = ""
