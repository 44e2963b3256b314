"""What a job's partition means when it is submitted: which one it is, who may use it, and for how long."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from racksack_controller.config.partitions import Partition
from racksack_jobspecs.spec import JobSpec
from racksack_jobspecs.units import format_duration


def settled(spec: JobSpec, owner: str, partitions: Mapping[str, Partition], time_limit_s: float | None) -> JobSpec:
    """The spec with its partition and time limit filled in. `time_limit_s`: of jobs that name none, None: unlimited.

    Raises ValueError with a sentence when the job may not be of its partition.
    """
    name = spec.partition or next((one.name for one in partitions.values() if one.is_default), "")
    if not name:
        return spec if spec.time_limit_s is not None else replace(spec, time_limit_s=time_limit_s)
    if name not in partitions:
        known = f"there are: {', '.join(sorted(partitions))}" if partitions else "none is configured"
        raise ValueError(f"there is no partition {name}; {known}")
    partition = partitions[name]
    if partition.users is not None and owner not in partition.users:
        raise ValueError(f"partition {name} is for {', '.join(partition.users)} alone")
    longest = partition.time_limit_s
    wanted = spec.time_limit_s
    if wanted is None:
        limits = [limit for limit in (time_limit_s, longest) if limit is not None]
        wanted = min(limits, default=None)
    elif longest is not None and wanted > longest:
        raise ValueError(
            f"partition {name} takes jobs of at most {format_duration(longest)}, not {format_duration(wanted)}"
        )
    return replace(spec, partition=name, time_limit_s=wanted)
