"""The keys of a `slurm` block beside the way to the login node, and what a cluster costs."""

from __future__ import annotations

from typing import Any

from racksack_jobspecs.readers import (
    DURATION,
    FLAG,
    LABEL,
    LINE,
    MEMORY,
    Field,
    Kind,
    Report,
    list_of,
    number_of,
    read_fields,
    shown,
    whole_of,
    word_of,
)
from racksack_jobspecs.yamlplain import plain
from racksack_jobspecs.yamltext import Mapping, Node

_OPTIONS_OF_OURS = (
    "--job-name", "-J", "--comment", "--output", "-o", "--error", "-e", "--chdir", "-D", "--requeue", "--array", "-a",
    "--wrap", "--nodes", "-N", "--ntasks", "-n", "--parsable", "--wait", "-W", "--hold", "-H", "--test-only",
)  # fmt: skip


def _cost(node: Node, _path: str, _report: Report) -> float:
    cost = number_of(node)
    if not 0 <= cost <= 1000:
        raise ValueError(f"{word_of(node)} is not a cost; write a number from 0 to 1000, such as 1.5")
    return cost


def _conf(node: Node, _path: str, _report: Report) -> str:
    word = word_of(node)
    if not word.startswith("/") or not word.isprintable():
        raise ValueError(f"{shown(word)} is not a full path; write one such as /opt/slurm/etc/slurm.conf")
    return word


def _option(node: Node, _path: str, _report: Report) -> str:
    """One option of sbatch, none that says which job this is or how it starts."""
    word = word_of(node)
    name = word.partition("=")[0]
    if not word.startswith("-") or not word.isprintable():
        raise ValueError(f"{shown(word)} is not an option of sbatch; write one such as --nice=100")
    if name in _OPTIONS_OF_OURS:
        raise ValueError(f"{name} is set by racksack; remove it")
    return word


def _partitions(node: Node, path: str, report: Report) -> dict[str, dict[str, Any]]:
    """A mapping from partitions to their settings, in which the order counts; a list of names will do."""
    if not isinstance(node, Mapping):
        return {name: {} for name in list_of(LABEL, splits_at_commas=True).read(node, path, report)}
    found: dict[str, dict[str, Any]] = {}
    for key, value in node.entries:
        where = f"{path}.{shown(key.text)}"
        if key.text in found:
            report.add(key.line, where, "duplicate name; keep one of them")
        is_empty = plain(value) is None
        found[key.text] = {} if is_empty else read_fields(value, where, SLURM_PARTITION_FIELDS, report)
    return found


def _partition_fields(of: str) -> tuple[Field, ...]:
    return (
        Field("account", LINE, f"The account {of}.", "proj1", "the user's own"),
        Field("qos", LINE, f"The quality of service {of}.", "long", "Slurm's"),
        Field("constraint", LINE, f"Features that nodes must have {of}.", '"skylake|icelake"', "none"),
        Field("exclusive", FLAG, f"Whole nodes {of}.", "yes", "no"),
        Field(
            "options",
            list_of(Kind(_option, {"type": "string"})),
            f"Further options of sbatch {of}.",
            "[--nice=100]",
            "none",
        ),
    )


SLURM_PARTITION_FIELDS = (
    Field("gpus", LINE, "The kind of GPU in it, as Slurm's Gres calls it.", "a100", "none: jobs without GPUs"),
    Field("vram", MEMORY, "Memory of each GPU.", "80G", "unknown: no job that asks for memory of a GPU"),
    Field("walltime", DURATION, "The longest time limit in it.", "12h", "walltime_default"),
    *_partition_fields("in it"),
)
SLURM_OWN_FIELDS = (
    Field(
        "partitions",
        Kind(_partitions, {}),
        "The cluster's partitions that may be used, in order of preference.",
        "{cpu: {}, gpu: {gpus: a100}}",
        "Slurm's default one",
    ),
    Field(
        "max_jobs",
        whole_of(1, 100_000, "the number of jobs"),
        "How many jobs may be submitted at once, including those waiting in Slurm.",
        "200",
        "100",
    ),
    Field(
        "max_cpus",
        whole_of(1, 65536, "the number of cores"),
        "How many cores these jobs may ask for in total.",
        "2000",
        "all",
    ),
    Field(
        "walltime_default",
        DURATION,
        "The default and the longest time limit of jobs.",
        "12h",
        "4h",
    ),
    *_partition_fields("of all its jobs"),
    Field(
        "conf",
        Kind(_conf, {}),
        "Path of slurm.conf on the login node, if it is not the default.",
        "/opt/slurm/etc/slurm.conf",
        "the default",
    ),
    Field(
        "absent",
        DURATION,
        "Without accounting: how long a job must be missing from Slurm before it counts as lost.",
        "10m",
        "5m",
    ),
)
COST = Field(
    "cost",
    Kind(_cost, {"type": "number"}),
    "For a cluster: a job goes there when that shortens its wait by more than this many times its own length.",
    "1.5",
    "1",
)
