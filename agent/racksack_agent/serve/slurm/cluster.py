"""What the cluster has: its partitions, the largest share that one job can get, and what `node check` tells."""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from racksack_agent.serve.numbers import whole
from racksack_agent.serve.slurm.commands import Commands, SlurmError

_MIB = 1 << 20
_GRES = re.compile(r"gpu(?::([A-Za-z0-9_.-]{1,100}))?:([0-9]{1,6})(?![0-9])")
_GPUS_MAX = 256  # that a node may have
_CPUS_MAX = 65536
_NODES_MAX = 100_000
_MIB_MAX = 2**40  # on one node
_BYTES_MAX = 2**60  # of all together


class Partition(NamedTuple):
    """A partition: what it has in all, and the largest node of it. `limit_s` None: no time limit."""

    name: str
    nodes: int
    cpus: int
    ram_bytes: int
    node_cpus: int
    node_ram_bytes: int
    gpus: Dict[str, int]  # by model
    node_gpus: int
    limit_s: Optional[float]
    state: str


def partitions(commands: Commands) -> List[Partition]:
    """All of them. Raises SlurmError."""
    text = commands.run(["sinfo", "--noheader", "--exact", "--format=%R|%D|%c|%m|%G|%l|%a"])
    found: Dict[str, Partition] = {}
    for line in text.splitlines():
        one = read_partition(line)
        if one is not None:
            found[one.name] = merged(found[one.name], one) if one.name in found else one
    return list(found.values())


def read_partition(line: str) -> Optional[Partition]:
    """One kind of nodes of a partition; None for a line that is something else."""
    parts = line.split("|")
    if len(parts) != 7:
        return None
    name, nodes, cpus, mib, gres, limit, state = (part.strip() for part in parts)
    count, cores, size = whole(nodes), whole(cpus.rstrip("+")), whole(mib.rstrip("+"))
    if count is None or cores is None or size is None:
        return None
    count, cores, ram_bytes = min(count, _NODES_MAX), min(cores, _CPUS_MAX), min(size, _MIB_MAX) * _MIB
    models: Dict[str, int] = {}
    for model, number in _GRES.findall(gres):
        models[model] = models.get(model, 0) + int(number) * count
    each = sum(models.values()) // max(1, count)
    return Partition(
        name, count, count * cores, count * ram_bytes, cores, ram_bytes, models, each, seconds(limit), state
    )


def merged(one: Partition, other: Partition) -> Partition:
    """Two kinds of nodes of one partition."""
    return one._replace(
        nodes=one.nodes + other.nodes,
        cpus=one.cpus + other.cpus,
        ram_bytes=one.ram_bytes + other.ram_bytes,
        node_cpus=max(one.node_cpus, other.node_cpus),
        node_ram_bytes=max(one.node_ram_bytes, other.node_ram_bytes),
        node_gpus=max(one.node_gpus, other.node_gpus),
        gpus={model: one.gpus.get(model, 0) + other.gpus.get(model, 0) for model in {**one.gpus, **other.gpus}},
    )


def seconds(text: str) -> Optional[float]:
    """`2-12:00:00`, `4:00:00`, `30:00` in seconds; None for `infinite` and what is no time."""
    match = re.fullmatch(r"(?:([0-9]{1,9})-)?(?:([0-9]{1,9}):)?([0-9]{1,9}):([0-9]{1,9})", text)
    if match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def inventory(found: Sequence[Partition], disk_bytes: int) -> Dict[str, Any]:
    """As of any node, for the partitions together; a node of two partitions counts once as far as can be seen: by
    the largest of them.
    """
    models: Dict[str, int] = {}
    for one in found:
        for model, count in one.gpus.items():
            models[model] = max(models.get(model, 0), count)
    gpus: List[Dict[str, Any]] = []
    for model, count in models.items():
        for _ in range(min(count, _GPUS_MAX - len(gpus))):
            at = len(gpus)
            gpus.append({"index": at, "uuid": f"slurm-{at}", "vendor": "nvidia", "model": model, "vram_bytes": 0})
    return {
        "cpus": min(_CPUS_MAX, max((one.cpus for one in found), default=0)),
        "ram_bytes": min(_BYTES_MAX, max((one.ram_bytes for one in found), default=0)),
        "disk_bytes": disk_bytes,
        "gpus": gpus,
        "problems": [],
        "job_cpus": max((one.node_cpus for one in found), default=0),
        "job_ram_bytes": max((one.node_ram_bytes for one in found), default=0),
        "job_gpus": max((one.node_gpus for one in found), default=0),
    }


def facts(commands: Commands) -> Dict[str, Any]:
    """Versions, and the partitions with their limits; `problems` are sentences."""
    told: Dict[str, Any] = {"versions": {}, "partitions": [], "problems": [], "accounting": False}
    for program in ("sbatch", "squeue", "scancel"):
        try:
            told["versions"][program] = commands.run([program, "--version"], timeout_s=20.0).strip()
        except SlurmError as problem:
            told["problems"].append(str(problem))
    try:
        commands.run(["sacct", "--noheader", "--allocations", "--format=JobID", "--starttime=now-1minutes"])
        told["accounting"] = True
    except SlurmError as problem:
        told["no_accounting"] = str(problem)
    try:
        told["partitions"] = [dict(one._asdict()) for one in partitions(commands)]
    except SlurmError as problem:
        told["problems"].append(f"sinfo: {problem}")
    return told
