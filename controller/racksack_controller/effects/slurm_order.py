"""With what options a job is submitted to a Slurm cluster: the first of its partitions that suits."""

from __future__ import annotations

from racksack_controller.core.records import Job
from racksack_controller.nodes.settings import SlurmPartition, SlurmSettings
from racksack_jobspecs.resources import Gpu


def slurm_order(settings: SlurmSettings, job: Job, devices: list[Gpu]) -> dict[str, object]:
    """The `slurm` of a LaunchOrder."""
    partition = partition_for(settings, job.spec.time_limit_s, devices)
    terms = partition.terms
    return {
        "partition": partition.name,
        "account": terms.account,
        "qos": terms.qos,
        "constraint": terms.constraint,
        "exclusive": terms.exclusive,
        "options": list(terms.options),
        "walltime_s": partition.walltime_s,
        "gpu": devices[0].model if devices else "",
    }


def partition_for(settings: SlurmSettings, time_limit_s: float | None, devices: list[Gpu]) -> SlurmPartition:
    """The first that has the devices, or has none where none are needed, and leaves enough time; else the best of the
    others: one with the devices, then one that leaves most time.
    """

    def unfit(partition: SlurmPartition) -> tuple[bool, bool, float]:
        lacks = partition.gpus not in (None, devices[0].model) if devices else partition.gpus is not None
        if devices and partition.gpus is None:
            lacks = any(other.gpus is not None for other in settings.partitions)
        is_short = time_limit_s is not None and partition.walltime_s < time_limit_s
        return lacks, is_short, -partition.walltime_s if is_short else 0.0

    return min(settings.partitions, key=unfit)
