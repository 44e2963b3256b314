"""Who is told of the end of a job, as `notify` of a job file names them."""

from __future__ import annotations

import re

from racksack_jobspecs.readers import Report, shown, word_of
from racksack_jobspecs.yamltext import Node

_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(?::(?:done|failed|cancelled))?")


def channel_of(node: Node, _path: str, _report: Report) -> str:
    """`NAME`, or `NAME:END` for one kind of end. Raises ValueError."""
    word = word_of(node)
    if _CHANNEL.fullmatch(word) is None:
        raise ValueError(f"{shown(word)} names nobody; write NAME, NAME:failed, NAME:done or NAME:cancelled")
    return word
