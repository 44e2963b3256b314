"""Line charts as plain SVG: no library, one page of code. Every chart names its axes and its lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import msgspec

WIDTH, HEIGHT, MARGIN = 760, 260, 58
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8d6a9f", "#c77d0a", "#4d4d4d")
FONT = 'font-family="sans-serif" font-size="12"'
TICKS = 5
LEGEND = 140  # width, beside the lines; a picture with longer names is wider
CHARACTER = 7


class Line(msgspec.Struct, frozen=True):
    """One line of a chart, as (x, y) points from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


class Chart(msgspec.Struct, frozen=True):
    """A set of lines over the same axes."""

    title: str
    x_name: str
    y_name: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False


class _Axis:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool) -> None:
        self.log = log
        usable = [value for value in values if value > 0] if log else list(values)
        self.low = min(usable, default=1.0)
        self.high = max(usable, default=1.0)
        if self.high <= self.low:
            self.high = self.low * 10 if log else self.low + 1.0
        self.start, self.end = start, end

    def pixel(self, value: float) -> float:
        """Where a value stands; values below the axis stand at its beginning."""
        low, high = self._scale(self.low), self._scale(self.high)
        part = (self._scale(max(value, self.low)) - low) / (high - low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Values worth a mark."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            return [10.0**power for power in powers]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / TICKS))
        step = next(step * factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= TICKS + 1)
        return [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value


def draw(charts: Sequence[Chart]) -> str:
    """The charts below one another, as the text of an SVG file."""
    height = len(charts) * (HEIGHT + MARGIN)
    longest = max((len(line.name) for chart in charts for line in chart.lines), default=0)
    width = max(WIDTH, WIDTH - LEGEND + round(longest * CHARACTER))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, chart in enumerate(charts):
        parts.append(f'<g transform="translate(0 {number * (HEIGHT + MARGIN)})">{_chart(chart)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _chart(chart: Chart) -> str:
    points = [point for line in chart.lines for point in line.points]
    x = _Axis([point[0] for point in points], MARGIN, WIDTH - 150, log=chart.log_x)
    y = _Axis([point[1] for point in points], HEIGHT, MARGIN / 2, log=chart.log_y)
    parts = [f'<text x="{MARGIN}" y="18" font-weight="bold">{escape(chart.title)}</text>', *_grid(chart, x, y)]
    for number, line in enumerate(chart.lines):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x.pixel(px):.1f},{y.pixel(py):.1f}" for px, py in line.points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        parts.append(f'<text x="{WIDTH - LEGEND}" y="{40 + 18 * number}" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join(parts)


def _grid(chart: Chart, x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for value in x.ticks():
        at = x.pixel(value)
        parts.append(f'<line x1="{at:.1f}" y1="{MARGIN / 2}" x2="{at:.1f}" y2="{HEIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT + 16}" text-anchor="middle">{value:g}</text>')
    for value in y.ticks():
        at = y.pixel(value)
        parts.append(f'<line x1="{MARGIN}" y1="{at:.1f}" x2="{WIDTH - 150}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{(WIDTH - 100) / 2}" y="{HEIGHT + 34}" text-anchor="middle">{escape(chart.x_name)}</text>')
    middle = HEIGHT / 2 + 15
    turned = f'transform="rotate(-90 12 {middle})" text-anchor="middle"'
    return [*parts, f'<text x="12" y="{middle}" {turned}>{escape(chart.y_name)}</text>']
