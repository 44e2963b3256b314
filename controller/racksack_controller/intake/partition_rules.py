"""What the configuration fills in and allows when a job is submitted: partition, time limit and grace."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from racksack_controller.config.config import Defaults
from racksack_controller.config.partitions import Partition
from racksack_controller.config.secrets import JobSecret, refused
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.units import format_duration


class SpecRefusedError(ValueError):
    """A job that the configuration does not allow; the message is a sentence about its key `key`."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def settled(
    spec: JobSpec,
    owner: str,
    partitions: Mapping[str, Partition],
    defaults: Defaults,
    secrets: Mapping[str, JobSecret],
) -> JobSpec:
    """The spec with its partition, time limit and grace filled in. Raises SpecRefusedError."""
    sentence = refused(spec, owner, secrets)
    if sentence is not None:
        raise SpecRefusedError("secrets", sentence)
    if spec.grace_s is not None and spec.grace_s > defaults.max_grace_s:
        longest, wanted = format_duration(defaults.max_grace_s), format_duration(spec.grace_s)
        raise SpecRefusedError("grace", f"jobs get at most {longest} to end, not {wanted}")
    return _in_partition(
        replace(spec, grace_s=spec.grace_s or defaults.grace_s), owner, partitions, defaults.time_limit_s
    )


def _in_partition(
    spec: JobSpec, owner: str, partitions: Mapping[str, Partition], time_limit_s: float | None
) -> JobSpec:
    """`time_limit_s`: of jobs that name none, None: unlimited."""
    name = spec.partition or next((one.name for one in partitions.values() if one.is_default), "")
    if not name:
        return spec if spec.time_limit_s is not None else replace(spec, time_limit_s=time_limit_s)
    if name not in partitions:
        known = f"there are: {', '.join(sorted(partitions))}" if partitions else "none is configured"
        raise SpecRefusedError("partition", f"there is no partition {name}; {known}")
    partition = partitions[name]
    if partition.users is not None and owner not in partition.users:
        raise SpecRefusedError("partition", f"partition {name} is only for {', '.join(partition.users)}")
    longest = partition.time_limit_s
    wanted = spec.time_limit_s
    if wanted is None:
        limits = [limit for limit in (time_limit_s, longest) if limit is not None]
        wanted = min(limits, default=None)
    elif longest is not None and wanted > longest:
        sentence = f"partition {name} allows jobs of at most {format_duration(longest)}, not {format_duration(wanted)}"
        raise SpecRefusedError("partition", sentence)
    return replace(spec, partition=name, time_limit_s=wanted)
