"""Values of the keys about what a job does before it ends: `warn` and `checkpoint_every`."""

from __future__ import annotations

import re

import msgspec

from racksack_jobspecs.readers import Report, either, shown, word_of
from racksack_jobspecs.units import parse_duration
from racksack_jobspecs.yamltext import Node

_SLURM_SIGNAL = re.compile(r"(?:[BR]{1,2}:)?(?:SIG)?([A-Za-z][A-Za-z0-9]*)@([0-9]{1,5})")
WARN_SIGNALS = ("USR1", "USR2", "TERM", "INT", "HUP", "QUIT", "CONT")
WARN_S_MAX = 86_400.0
CHECKPOINT_EVERY_S_MAX = 7 * 86_400.0


class Warn(msgspec.Struct, frozen=True):
    """A warning before the end."""

    before_s: float
    signal: str


def warn_of(node: Node, _path: str, _report: Report) -> Warn:
    """`120s`, `120s:USR1`, or as in Slurm `USR1@120` (seconds) and `B:USR1@120`."""
    word = word_of(node)
    slurm = _SLURM_SIGNAL.fullmatch(word)
    time, name = (f"{slurm[2]}s", slurm[1]) if slurm else (word, "")
    if not slurm and not word.rpartition(":")[2][:1].isdigit():
        time, _, name = word.rpartition(":")
    if not time:
        raise ValueError(f"{shown(word)} does not say how long before the end; write one such as 120s:USR1")
    name = (name or "USR1").upper().removeprefix("SIG")
    if name not in WARN_SIGNALS:
        raise ValueError(f"{shown(name)} is not a signal that can warn; write {either(WARN_SIGNALS)}")
    before_s = parse_duration(time)
    if before_s > WARN_S_MAX:
        raise ValueError(f"{shown(time)} is too early for a warning; write at most 1d")
    return Warn(before_s, name)


def checkpoint_every_of(node: Node, _path: str, _report: Report) -> float:
    """Seconds, within bounds that make sense."""
    every_s = parse_duration(word_of(node))
    if not 1 <= every_s <= CHECKPOINT_EVERY_S_MAX:
        raise ValueError(f"{shown(word_of(node))} is not a useful interval; write 1s to 7d, such as 10m")
    return every_s
