"""The `slurm` block of a node: a cluster that is reached through its login node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from racksack_controller.config.named_blocks import Named
from racksack_controller.config.partitions import Partition
from racksack_controller.nodes.settings import SlurmPartition, SlurmSettings, SlurmTerms
from racksack_jobspecs.readers import Report
from racksack_jobspecs.resources import Inventory

WALLTIME_S = 4 * 3600.0
JOBS_DEFAULT = 100
_NOT_OF_CLUSTERS = ("power", "max_jobs", "gpus", "cpus", "ram", "reserve")


def hoisted(one: Named, report: Report) -> dict[str, Any]:
    """A node's values, where the way to a cluster's login node stands where that to any server does."""
    block = one.values.get("slurm")
    if block is None:
        if "cost" in one.values:
            report.add(
                one.line, f"{one.path}.cost", "is only for clusters; remove it, or describe a cluster with slurm: {...}"
            )
        return one.values
    for key in _NOT_OF_CLUSTERS:
        if key in one.values:
            report.add(one.line, f"{one.path}.{key}", "cannot be combined with slurm; remove it (see clusters.md)")
    ways = [way for way in ("ssh", "local") if way in block]
    if len(ways) != 1:
        said = (
            "has both ssh and local; keep one of them"
            if ways
            else "lacks ssh: {host: ..., user: ...} of the login node"
        )
        report.add(one.line, f"{one.path}.slurm", said)
    found = {way: dict(block[way]) for way in ways}
    if "home" in block:
        for way, reach in found.items():
            reach["home"] = Path(block["home"]) if way == "local" else block["home"]
    return {**one.values, **found}


def slurm_of(block: Mapping[str, Any]) -> SlurmSettings:
    """The settings of a cluster, with the defaults filled in."""
    walltime_s = block.get("walltime_default", WALLTIME_S)
    common = _terms(block, SlurmTerms())
    partitions = tuple(
        SlurmPartition(name, _terms(own, common), own.get("walltime", walltime_s), own.get("gpus"), own.get("vram", 0))
        for name, own in block.get("partitions", {}).items()
    )
    more = {name: block[key] for key, name in (("absent", "absent_s"), ("conf", "conf")) if key in block}
    only = (SlurmPartition("", common, walltime_s),)
    return SlurmSettings(partitions=partitions or only, max_cpus=block.get("max_cpus"), **more)


def _terms(block: Mapping[str, Any], common: SlurmTerms) -> SlurmTerms:
    own = {key: block[key] for key in ("account", "qos", "constraint", "exclusive") if key in block}
    return msgspec.structs.replace(common, **own, options=(*common.options, *block.get("options", ())))


def of_cluster(slurm: SlurmSettings, probed: Inventory) -> Inventory:
    """What of a cluster may be used: no more cores than configured, and devices with their memory."""
    vram = {partition.gpus: partition.vram_bytes for partition in slurm.partitions if partition.gpus}
    gpus = [
        msgspec.structs.replace(gpu, vram_bytes=vram.get(gpu.model, gpu.vram_bytes))
        for gpu in probed.gpus
        if not vram or gpu.model in vram
    ]
    cpus = probed.cpus if slurm.max_cpus is None else min(probed.cpus, slurm.max_cpus)
    return msgspec.structs.replace(probed, cpus=cpus, gpus=tuple(gpus))


def with_own_partitions(partitions: Mapping[str, Partition], clusters: Sequence[str]) -> dict[str, Partition]:
    """Each cluster is a partition of its own name, too, unless the owner has given that name to another."""
    return {**{name: Partition(name, (name,)) for name in clusters}, **partitions}
