"""The key `gpus` of a job file: a number, a share of one device, a model, or a mapping."""

from __future__ import annotations

import re

from racksack_jobspecs.readers import LINE, MEMORY, Field, Kind, Report, number_of, read_fields, shown, word_of
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.yamltext import Mapping, Node, Scalar

GPUS_MAX = 1024
_SHARE_STEPS = 1000  # of a device


def _gpus(node: Node, path: str, report: Report) -> GpuRequest:
    """`2`, `0.5`, `model`, `model:2` or a mapping. No GPUs is a count of 0."""
    if isinstance(node, Mapping):
        return _gpus_mapping(node, path, report)
    word = word_of(node)
    if re.fullmatch(r"[-0-9.]+", word):
        return GpuRequest(gpu_count(node))
    model, colon, count = word.rpartition(":")
    if not colon:
        model, count = word, "1"
    if not model.strip() or not model.isprintable():
        raise ValueError(f'{shown(word)} is not a GPU request; write a number, "model:number" or a mapping')
    return GpuRequest(gpu_count(Scalar(node.line, count, True)), model.strip())


def gpu_count(node: Node) -> float:
    """How many devices: whole, or a share below 1 in thousandths. Raises ValueError."""
    count = number_of(node)
    if 0 < count < 1:
        return max(round(count * _SHARE_STEPS) / _SHARE_STEPS, 1 / _SHARE_STEPS)
    if count != int(count) or not 0 <= count <= GPUS_MAX:
        wrong = f"{shown(word_of(node))} is not a number of GPUs"
        raise ValueError(f"{wrong}; write a whole number up to {GPUS_MAX}, or a share below 1 such as 0.5")
    return count


def _gpus_mapping(node: Mapping, path: str, report: Report) -> GpuRequest:
    values = read_fields(node, path, GPU_FIELDS, report, {"type": "model", "name": "model", "memory": "vram"})
    if "count" in values and "share" in values:
        raise ValueError("count and share exclude each other; a share is a part of one device")
    return GpuRequest(values.get("share", values.get("count", 1.0)), values.get("model"), values.get("vram"))


def _share(node: Node, _path: str, _report: Report) -> float:
    share = number_of(node)
    if not 0 < share < 1:
        raise ValueError(
            f"{shown(word_of(node))} is not a share of one GPU; write a number between 0 and 1, such as 0.5"
        )
    return gpu_count(node)


def _count(node: Node, _path: str, _report: Report) -> float:
    return gpu_count(node)


_COUNT = Kind(_count, {"type": "number", "minimum": 0, "maximum": GPUS_MAX})
_SHARE = Kind(_share, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})

GPU_FIELDS = (
    Field("count", _COUNT, "How many devices, or a share of one below 1.", "2", "1"),
    Field("model", LINE, "Words of the device's name, case ignored.", "rtx 3090", "any"),
    Field("vram", MEMORY, "The least memory that each device must have.", "12G", "any"),
    Field("share", _SHARE, "A part of one device, in place of count.", "0.5"),
)

GPUS = Kind(
    _gpus,
    {
        "anyOf": [
            {"type": ["number", "string"]},
            {
                "type": "object",
                "properties": {one.key: {**one.kind.schema, "description": one.doc} for one in GPU_FIELDS},
                "additionalProperties": False,
            },
        ]
    },
)
