"""The energy of the rack as a picture: bars by time, made on the server. Plain numbers in, numbers of an SVG out.

A bar is the average draw in its time, split into what jobs used and what nobody did; the line above it is what servers
that are always on would have drawn. Of each server the average is that of the time about which something is known, so
that a bar that has only begun is not low. Where nothing is known there is no bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from racksack_controller.energy.joules import is_estimate, kwh
from racksack_controller.energy.store import Slice

WIDTH, HEIGHT = 720, 150
LEFT, RIGHT, TOP, BOTTOM = 70, 6, 14, 24
_STEPS_S = (300, 900, 3600, 3 * 3600, 6 * 3600, 86400)
BARS_MAX = 60
LABEL_WIDTH = 95  # in the large letters of a narrow screen


class Bar(msgspec.Struct, frozen=True):
    """One bar in the picture: where, how high its parts are, and what it says when pointed at."""

    x: float
    width: float
    idle_y: float
    idle_height: float
    jobs_y: float
    jobs_height: float
    always_y: float
    start_s: int
    kwh: float
    jobs_kwh: float
    always_kwh: float
    estimated: bool


class Mark(msgspec.Struct, frozen=True):
    """A line of the scale and its number, or a moment below the bars."""

    at: float
    value: float


class Chart(msgspec.Struct, frozen=True):
    """The picture. `step_s` is the length of a bar."""

    bars: tuple[Bar, ...]
    scale: tuple[Mark, ...]  # kW
    moments: tuple[Mark, ...]  # Unix seconds
    step_s: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


class _Sum:
    """What is known about a bar; the `whole` figures are what it would be if all of its time were known."""

    def __init__(self) -> None:
        self.joules = self.idle_j = self.always_j = self.sensor_j = self.known_s = 0.0
        self.whole_j = self.whole_idle_j = self.whole_always_j = 0.0

    def add_row(self, row: Slice) -> None:
        self.joules += row.joules
        self.idle_j += row.idle_j
        self.always_j += row.always_j
        self.sensor_j += row.sensor_j
        self.known_s += row.known_s

    def add_node(self, one: _Sum, step_s: float) -> None:
        part = step_s / one.known_s if one.known_s else 0.0
        self.joules += one.joules
        self.idle_j += one.idle_j
        self.always_j += one.always_j
        self.sensor_j += one.sensor_j
        self.whole_j += one.joules * part
        self.whole_idle_j += one.idle_j * part
        self.whole_always_j += one.always_j * part


def chart(slices: Mapping[str, Sequence[Slice]], since_s: float, until_s: float) -> Chart | None:
    """The picture of the slices of all nodes between two moments, from the first of which anything is known.

    None when there is nothing to show.
    """
    known_s = [row.start_s for rows in slices.values() for row in rows if row.known_s]
    since_s = max(since_s, min(known_s, default=since_s))
    step_s = next((step for step in _STEPS_S if (until_s - since_s) / step <= BARS_MAX), _STEPS_S[-1])
    first = int(since_s // step_s)
    count = int(until_s // step_s) - first + 1
    sums: dict[int, _Sum] = {}
    for rows in slices.values():
        for at, one in _summed(rows, step_s, first, count).items():
            sums.setdefault(at, _Sum()).add_node(one, step_s)
    most_j = max((max(one.whole_j, one.whole_always_j) for one in sums.values()), default=0.0)
    if most_j <= 0:
        return None
    top_kw = _round_up(most_j / step_s / 1000.0)
    width = (WIDTH - LEFT - RIGHT) / count
    top_j = top_kw * step_s * 1000.0
    bars = tuple(_bar(one, at, width, top_j, (first + at) * step_s) for at, one in sorted(sums.items()))
    scale = tuple(Mark(_y(part), top_kw * part) for part in (0.0, 0.5, 1.0))
    every = max(1, count // 6)
    places = [at for at in range(0, count, every) if at * width <= WIDTH - LEFT - RIGHT - LABEL_WIDTH]
    moments = tuple(Mark(LEFT + at * width, float((first + at) * step_s)) for at in places)
    return Chart(bars, scale, moments, step_s)


def _summed(rows: Iterable[Slice], step_s: int, first: int, count: int) -> dict[int, _Sum]:
    sums: dict[int, _Sum] = {}
    for row in rows:
        at = row.start_s // step_s - first
        if 0 <= at < count:
            sums.setdefault(at, _Sum()).add_row(row)
    return sums


def _bar(one: _Sum, at: int, width: float, top_j: float, start_s: int) -> Bar:
    idle, whole = one.whole_idle_j / top_j, one.whole_j / top_j
    plot = HEIGHT - TOP - BOTTOM
    return Bar(
        x=LEFT + at * width + 0.5,
        width=max(1.0, width - 1.0),
        idle_y=_y(idle),
        idle_height=idle * plot,
        jobs_y=_y(whole),
        jobs_height=(whole - idle) * plot,
        always_y=_y(one.whole_always_j / top_j),
        start_s=start_s,
        kwh=kwh(one.joules),
        jobs_kwh=kwh(one.joules - one.idle_j),
        always_kwh=kwh(one.always_j),
        estimated=is_estimate(one.joules, one.sensor_j),
    )


def _y(part: float) -> float:
    return TOP + (1.0 - part) * (HEIGHT - TOP - BOTTOM)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, ... times a power of ten."""
    power = 1e-6
    while power < 1e9:
        for digit in (1, 2, 5):
            if value <= digit * power:
                return digit * power
        power *= 10
    return value
