"""Segments: the results of many points in columns, as workers encode them and the store keeps them.

One frame of a runner is one segment; small ones are merged when their chunk is settled, so that a million points are a
few dozen rows. Nothing here makes an object for each point.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from racksack_controller.core.sweeps.ranges import Range, Ranges
from racksack_controller.core.sweeps.records import InRam
from racksack_jobspecs.bounds import UNDECODABLE, Bytes, Count, Name

Numbers = npt.NDArray[np.int64]
Column = npt.NDArray[Any]  # float64, int64, or objects

LENGTHS = struct.Struct("<II")
FRAME_BYTES_MAX = 64 * 1024**2
FLOAT_WHOLE_MAX = 2**53
_FLOAT_MAX = int(sys.float_info.max)
POINTS_MAX = 65_536  # of a merged segment
METRICS_MAX = 10_000  # of one frame
INT64_MAX = 2**63 - 1
POINT_MAX = 2**53  # so that the number behind the last one is one, too

Point = Annotated[int, Meta(ge=0, le=POINT_MAX)]
Metric = Annotated[str, Meta(max_length=1000)]


class FrameError(ValueError):
    """A runner sent what is no frame; the sentence says what."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The header of a frame; see `racksack_agent.sweep_runner.frames`."""

    k: Name
    c: Count = 0
    n: Count = 0
    lo: Point | None = None
    t: Bytes = 0
    cols: Annotated[tuple[tuple[Metric, Name, Bytes], ...], Meta(max_length=METRICS_MAX)] = ()
    p: msgspec.Raw = msgspec.Raw(b"[]")
    slots: Count = 0
    s: float = 0.0
    ram: InRam | None = None
    busy: Count = 0
    waiting: Count = 0
    restarts: Count = 0


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Results of some points; `data` holds their numbers (unless `first` is given), seconds and metrics, in this
    order.
    """

    points: int
    first: int | None
    seconds_bytes: int
    columns: tuple[tuple[str, str, int], ...]
    data: bytes

    def numbers(self) -> Numbers:
        """The points."""
        if self.first is not None:
            return np.arange(self.first, self.first + self.points, dtype=np.int64)
        return np.frombuffer(self.data, "<i8", self.points)

    def has_twice(self) -> bool:
        """Whether a point is in it more than once."""
        return self.first is None and len(np.unique(self.numbers())) < self.points

    def ranges(self) -> list[Range]:
        """The points as ranges, in their order here."""
        return [(self.first, self.first + self.points)] if self.first is not None else as_ranges(self.numbers())

    def seconds(self) -> npt.NDArray[np.float32]:
        """How long each took."""
        return np.frombuffer(self.data, "<f4", self.points, 0 if self.first is not None else 8 * self.points)

    def metric_columns(self) -> Iterator[tuple[str, Column]]:
        """Each metric with a value for every point. Raises FrameError."""
        at = (0 if self.first is not None else 8 * self.points) + self.seconds_bytes
        for name, kind, size in self.columns:
            yield name, column_of(kind, self.data[at : at + size], self.points)
            at += size


_decode_header = msgspec.json.Decoder(Header).decode
_decode_list = msgspec.json.Decoder(list[Any]).decode


def column_of(kind: str, data: bytes, points: int) -> Column:
    """The values of one column. Raises FrameError."""
    try:
        if kind in ("d", "q"):
            return np.frombuffer(data, "<f8" if kind == "d" else "<i8", points)
        values = np.empty(points, dtype=object)
        values[:] = list(map(_storable, _decode_list(data)))
    except (ValueError, *UNDECODABLE) as error:
        raise FrameError(f"a column of kind {kind} with {len(data)} bytes for {points} points") from error
    return values


def _storable(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """A whole number beyond 64 bits as a float, as expressions have it; also within lists and objects."""
    if type(value) is int and not -INT64_MAX <= value <= INT64_MAX:
        return float(value) if abs(value) < _FLOAT_MAX else None
    if type(value) is list:
        return list(map(_storable, value))
    if type(value) is dict:
        return {name: _storable(one) for name, one in value.items()}
    return value


def as_ranges(numbers: Numbers) -> list[Range]:
    """Points in any order as ranges, in the order in which they stand."""
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts = numbers[np.concatenate(([0], breaks))]
    ends = numbers[np.concatenate((breaks - 1, [len(numbers) - 1]))] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def split(buffer: bytes) -> tuple[list[tuple[Header, bytes]], int]:
    """The whole frames at the start of `buffer`, and how many bytes they are. Raises FrameError."""
    found, at = [], 0
    while len(buffer) - at >= LENGTHS.size:
        head_bytes, body_bytes = LENGTHS.unpack_from(buffer, at)
        body_at = at + LENGTHS.size + head_bytes
        end = body_at + body_bytes
        if end - at > FRAME_BYTES_MAX:
            raise FrameError(f"a frame of {end - at} bytes")
        if len(buffer) < end:
            break
        try:
            header = _decode_header(buffer[at + LENGTHS.size : body_at])
        except UNDECODABLE as error:
            raise FrameError(f"a frame whose header is wrong ({error})") from error
        found.append((header, buffer[body_at:end]))
        at = end
    return found, at


def segment_of(header: Header, body: bytes) -> Segment:
    """What an `ok` frame holds. Raises FrameError when its parts do not add up."""
    segment = Segment(points=header.n, first=header.lo, seconds_bytes=header.t, columns=header.cols, data=body)
    numbers_bytes = 0 if header.lo is not None else 8 * header.n
    if header.n < 1 or header.t != 4 * header.n or any(size < 0 for _, _, size in header.cols):
        raise FrameError(f"a frame of {header.n} points with {header.t} bytes of seconds")
    if numbers_bytes + header.t + sum(size for _, _, size in header.cols) != len(body):
        raise FrameError(f"a frame whose columns do not make up its {len(body)} bytes")
    for _ in segment.metric_columns():
        pass
    seconds, numbers = segment.seconds(), segment.numbers()
    if not (np.isfinite(seconds).all() and seconds.min() >= 0):
        raise FrameError("a frame with seconds that no clock measures")
    if numbers.min() < 0 or numbers.max() > POINT_MAX:
        raise FrameError("a frame with points that no sweep has")
    return segment


def without(segment: Segment, unwanted: Ranges) -> Segment | None:
    """The same less some points; None when nothing is left."""
    numbers = segment.numbers()
    keep = np.ones(len(numbers), dtype=np.bool_)
    for low, high in unwanted:
        keep &= (numbers < low) | (numbers >= high)
    return None if not keep.any() else build(numbers[keep], segment.seconds()[keep], _kept(segment, keep))


def _kept(segment: Segment, keep: npt.NDArray[np.bool_]) -> dict[str, Column]:
    return {name: column[keep] for name, column in segment.metric_columns()}


def build(numbers: Numbers, seconds: npt.NDArray[np.float32], metrics: dict[str, Column]) -> Segment:
    """A segment from its columns."""
    is_row = len(numbers) == numbers[-1] - numbers[0] + 1 and bool(np.all(np.diff(numbers) == 1))
    took = seconds.astype("<f4").tobytes()
    parts = [] if is_row else [numbers.astype("<i8").tobytes()]
    parts.append(took)
    columns = []
    for name, values in metrics.items():
        kind, data = encode(values)
        columns.append((name, kind, len(data)))
        parts.append(data)
    return Segment(
        points=len(numbers),
        first=int(numbers[0]) if is_row else None,
        seconds_bytes=len(took),
        columns=tuple(columns),
        data=b"".join(parts),
    )


def encode(values: Column) -> tuple[str, bytes]:
    """The kind and the bytes of a column."""
    if values.dtype == np.float64:
        return "d", values.astype("<f8").tobytes()
    if values.dtype == np.int64:
        return "q", values.astype("<i8").tobytes()
    return "j", msgspec.json.encode(values.tolist())


def merge(segments: Sequence[Segment]) -> Segment:
    """Several as one, in the order of their points."""
    numbers = np.concatenate([segment.numbers() for segment in segments])
    seconds = np.concatenate([segment.seconds() for segment in segments])
    metrics = joined(segments)
    if np.any(numbers[1:] < numbers[:-1]):
        order = np.argsort(numbers, kind="stable")
        numbers, seconds = numbers[order], seconds[order]
        metrics = {name: column[order] for name, column in metrics.items()}
    return build(numbers, seconds, metrics)


def joined(segments: Sequence[Segment], names: Iterable[str] | None = None) -> dict[str, Column]:
    """Each metric over all points of the segments. A point that does not have a metric has NaN, or None beside text."""
    parts: dict[str, list[Column | None]] = {}
    wanted = None if names is None else set(names)
    for index, segment in enumerate(segments):
        for name, column in segment.metric_columns():
            if wanted is None or name in wanted:
                parts.setdefault(name, [None] * len(segments))[index] = column
    return {name: _join(columns, segments) for name, columns in parts.items()}


def _has_long(column: Column | None) -> bool:
    """Whether whole numbers would lose digits as float64."""
    if column is None or column.dtype != np.int64:
        return False
    return bool(np.any((column > FLOAT_WHOLE_MAX) | (column < -FLOAT_WHOLE_MAX)))


def _join(columns: Sequence[Column | None], segments: Sequence[Segment]) -> Column:
    kinds = {column.dtype.kind for column in columns if column is not None}
    is_mixed = "f" in kinds or any(column is None for column in columns)
    if "O" in kinds or (is_mixed and any(map(_has_long, columns))):
        whole = np.concatenate(
            [
                np.full(segment.points, None, dtype=object) if column is None else column.astype(object)
                for column, segment in zip(columns, segments, strict=True)
            ]
        )
    elif is_mixed:
        whole = np.concatenate(
            [
                np.full(segment.points, math.nan) if column is None else column.astype(np.float64, copy=False)
                for column, segment in zip(columns, segments, strict=True)
            ]
        )
    else:
        whole = np.concatenate([column for column in columns if column is not None])
    return whole
