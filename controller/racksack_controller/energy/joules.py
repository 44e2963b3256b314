"""Watts to joules, and joules to jobs: arithmetic only.

What a node draws comes from its sensor; without one from the owner's figures by load; without those from a model that
is labelled as one. A node's energy is split by what its jobs used, the rest is its idle share: of the draw when idle a
job bears the part of the machine that it used, and of everything above that the part that it used of all work done.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

GPU_AS_CPUS = 16.0  # a busy GPU draws about as much as so many busy cores
SENSOR_S_MAX = 180.0  # an older reading says nothing about now
GAP_S_MAX = 900.0  # a longer time without a sample is filled only where the power was the same before and after it
ESTIMATED_GAP_S_MAX = 7 * 86400.0  # and a still longer one never: a clock may have been wrong
CORES_LEAST = 1e-6  # less work than that is none


class Source(StrEnum):
    """Where watts come from; everything but a sensor is an estimate."""

    SENSOR = "sensor"
    CONFIG = "config"
    MODEL = "model"


class Machine(msgspec.Struct, frozen=True):
    """What the arithmetic needs of a node. `idle_watts` and `max_watts` are the owner's, None where there are none."""

    cpus: float
    gpus: int = 0
    idle_watts: float | None = None
    max_watts: float | None = None

    @property
    def capacity(self) -> float:
        """All of it, in cores."""
        return max(1.0, self.cpus) + GPU_AS_CPUS * self.gpus

    @property
    def source(self) -> Source:
        """Where watts come from without a sensor."""
        return Source.MODEL if self.idle_watts is None or self.max_watts is None else Source.CONFIG

    @property
    def idle(self) -> float:
        """Watts when nothing is done: the owner's figure, or that of an ordinary server of this size."""
        return 40.0 + 1.5 * self.cpus + 15.0 * self.gpus if self.idle_watts is None else self.idle_watts

    @property
    def most(self) -> float:
        """Watts when all is busy."""
        return self.idle + 4.5 * self.cpus + 200.0 * self.gpus if self.max_watts is None else self.max_watts

    def watts_at(self, used: float) -> float:
        """Watts when `used` cores' worth of it are busy."""
        return self.idle + (self.most - self.idle) * min(1.0, max(0.0, used / self.capacity))


class Draw(msgspec.Struct, frozen=True):
    """What a node draws at a moment, and how that is known."""

    watts: float
    source: Source

    @property
    def is_estimate(self) -> bool:
        """Whether no sensor said so."""
        return self.source is not Source.SENSOR


class Split(msgspec.Struct, frozen=True):
    """Joules of one span: of each job, and of nobody."""

    jobs: dict[int, float]
    idle_j: float


def draw(machine: Machine, *, is_on: bool, used: float, sensor_watts: float | None) -> Draw:
    """What the node draws. One that is off draws what its sensor says, else nothing."""
    if sensor_watts is not None:
        return Draw(sensor_watts, Source.SENSOR)
    return Draw(machine.watts_at(used) if is_on else 0.0, machine.source)


def split(machine: Machine, joules: float, span_s: float, used: Mapping[int, float], idle_watts: float) -> Split:
    """Split the joules of a span of `span_s` seconds over its jobs; `used` are their cores on the average."""
    total = sum(used.values())
    if total < CORES_LEAST:
        return Split({}, joules)
    base_j = min(joules, idle_watts * span_s)
    above_j = joules - base_j
    busy = max(total, machine.capacity)  # a job may take more than the node was said to have
    jobs = {job: base_j * cores / busy + above_j * cores / total for job, cores in used.items()}
    return Split(jobs, joules - sum(jobs.values()))


def is_estimate(joules: float, sensor_j: float) -> bool:
    """Whether any noteworthy part of these joules was not measured; where nothing was measured nothing was."""
    return sensor_j <= 0.0 or sensor_j < 0.99 * joules


def kwh(joules: float) -> float:
    """Kilowatt-hours."""
    return joules / 3.6e6
