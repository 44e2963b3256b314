"""Takes what runners tell: frames become segments, failures and points that are free again, in one transaction."""

from __future__ import annotations

import logging
import math
import sqlite3
from dataclasses import dataclass, field
from typing import Any

import msgspec

from racksack_controller.core.sweeps import backoff, rules, sizes
from racksack_controller.core.sweeps.records import MAIN, Failure, InRam, Progress
from racksack_controller.core.sweeps.stopping import Verdict
from racksack_controller.store import Store, StoreError
from racksack_controller.sweeps import early_stops
from racksack_controller.sweeps.active import Active, Lease, RunnerAttempt
from racksack_controller.sweeps.results import ledger, reports
from racksack_controller.sweeps.results.segments import FrameError, Header, Point, Segment, segment_of, split, without
from racksack_controller.sweeps.search.protocol import Outcome
from racksack_jobspecs.bounds import UNDECODABLE, TimeS

log = logging.getLogger("racksack.sweeps")

SECONDS_MIN = 1e-6  # of a point: below this the clock says nothing
SENTENCE_CHARS_MAX = 1000
METRICS_KEPT = 200  # names

_decode_failures = msgspec.json.Decoder(list[tuple[Point, str, str, TimeS]]).decode
_decode_ranges = msgspec.json.Decoder(list[tuple[Point, Point]]).decode


@dataclass
class Taken:
    """What some frames come to."""

    segments: list[tuple[Lease, Segment]] = field(default_factory=list)
    reports: list[Segment] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    answers: dict[int, early_stops.Answer] = field(default_factory=dict)
    stopped: int = 0  # of `done`
    failures: list[Failure] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)  # points that failed before and have done well
    touched: dict[int, Lease] = field(default_factory=dict)
    done: int = 0
    seconds: float = 0.0
    has_come_up: bool = False  # a worker says that it is ready
    in_ram: InRam | None = None


async def take(active: Active, runner: RunnerAttempt, data: bytes, store: Store, now: float) -> bool:
    """Store what `data`, the next bytes of a runner's results, holds; whether anything changed.

    Raises StoreError, and then `active` is stale; FrameError when the runner sent nonsense, and nothing was taken.
    """
    runner.buffer += data
    frames, length = split(runner.buffer)
    if not frames:
        return False
    told = _checked(frames)
    async with active.lock:
        if active.is_stale:
            raise StoreError(f"sweep {active.id} is about to be reloaded")
        if runner.attempt not in active.runners:
            return False  # it was given up meanwhile
        taken = _read(active, runner, told, now)
        position = runner.position + length
        progress = _progress(active, runner, taken, now)

        def save(connection: sqlite3.Connection) -> bool:
            if ledger.stream_position(connection, runner.attempt) != runner.position:
                return False
            _save(connection, active, taken)
            ledger.save_progress(connection, active.id, progress)
            ledger.move_stream(connection, active.id, runner.attempt, position)
            return True

        try:
            if not await store.write(save):
                raise StoreError(f"results of {runner.attempt} came twice")
        except StoreError:
            active.is_stale = True
            raise
        runner.position, runner.buffer = position, runner.buffer[length:]
        if active.spec.is_adaptive:
            active.outcomes += _outcomes(active, taken)
        for number, lease in taken.touched.items():
            if not lease.left:
                active.leases.pop(number, None)
        _answer(runner, told, taken)
    return True


def _answer(runner: RunnerAttempt, told: list[Told], taken: Taken) -> None:
    """Let the runner hear what was decided, until it says that the point is over. Only once that is saved."""
    runner.verdicts.update(taken.answers)
    for one in told if runner.verdicts else ():
        over = one.segment.numbers().tolist() if one.header.k == "ok" and one.segment is not None else ()
        for point in (*over, *(failure[0] for failure in one.failed)):
            runner.verdicts.pop(point, None)
    if taken.answers:
        runner.news.set()


FailedPoint = tuple[int, str, str, float]


@dataclass
class Told:
    """One frame, checked."""

    header: Header
    segment: Segment | None = None
    failed: list[FailedPoint] = field(default_factory=list)
    back: list[tuple[int, int]] = field(default_factory=list)


def _checked(frames: list[tuple[Header, bytes]]) -> list[Told]:
    """What the frames say. Raises FrameError before anything is changed."""
    found: list[Told] = []
    for header, body in frames:
        if header.k == "report":
            found.append(Told(header, segment=_reports(header, body)))
        elif header.k == "ok":
            segment = segment_of(header, body)
            if segment.has_twice():
                raise FrameError("a frame that has the result of a point twice")
            found.append(Told(header, segment=segment))
        elif header.k == "fail":
            found.append(Told(header, failed=_decoded(_decode_failures, header)))
        elif header.k == "back":
            found.append(Told(header, back=[span for span in _decoded(_decode_ranges, header) if span[0] < span[1]]))
        elif header.k == "ready":
            found.append(Told(header))
    return found


def _reports(header: Header, body: bytes) -> Segment:
    """Reports of running points. Raises FrameError."""
    segment = segment_of(header, body)
    steps = dict(segment.metric_columns()).get(reports.STEP)
    if header.lo is not None or steps is None or steps.dtype.kind not in "fi":
        raise FrameError("a frame of reports without points or steps")
    return segment


def _decoded(decode: Any, header: Header) -> Any:  # noqa: ANN401 - as the decoder says
    try:
        return decode(header.p)
    except UNDECODABLE as error:
        raise FrameError(f"the points of a frame of kind {header.k} are wrong ({error})") from error


def _read(active: Active, runner: RunnerAttempt, told: list[Told], now: float) -> Taken:
    taken = Taken()
    for one in told:
        number = one.header.c
        if one.header.k == "ready":
            runner.is_ready = active.was_ready = taken.has_come_up = True
            taken.in_ram = one.header.ram
            continue
        lease = active.leases.get(number)
        if lease is None or lease.chunk.attempt != runner.attempt:
            continue
        if one.header.k == "report" and one.segment is not None:
            _take_reports(active, lease, one.segment, taken)
            continue
        taken.touched[number] = lease
        if one.segment is not None:
            _take_results(active, lease, one.segment, taken)
        elif one.header.k == "fail":
            _take_failures(active, runner, lease, one.failed, taken, now)
        else:
            _take_back(active, lease, one.back)
    return taken


def _take_reports(active: Active, lease: Lease, reported: Segment, taken: Taken) -> None:
    taken.reports.append(reported)
    judged = early_stops.judge(active, lease, reported)
    taken.verdicts += judged.verdicts
    taken.answers.update(judged.answers)
    if judged.stopped is not None:
        taken.touched[lease.chunk.number] = lease
        taken.stopped += judged.stopped.points
        _take_results(active, lease, judged.stopped, taken)


def _take_back(active: Active, lease: Lease, ranges: list[tuple[int, int]]) -> None:
    lease.has_given_back = True
    for low, high in ranges:
        if lease.left.covers(low, high):
            lease.left.remove(low, high)
            active.pending.add(low, high)


def _take_results(active: Active, lease: Lease, segment: Segment, taken: Taken) -> None:
    ranges = segment.ranges()
    before = lease.left.size
    missing = [span for span in ranges if not lease.left.covers(*span)]
    if missing:  # a point that has its outcome already keeps it: one that was stopped early ends after its outcome
        if active.rungs is None:
            log.warning(
                "sweep=%s chunk=%s told points that it does not have: %s", active.id, lease.chunk.number, missing[:3]
            )
        kept = without(segment, lease.left.missing_of(ranges))
        if kept is None:
            return
        segment, ranges = kept, kept.ranges()
    lease.left.discard_all(ranges)
    taken.done += before - lease.left.size
    taken.seconds += float(segment.seconds().sum(dtype=float))
    taken.segments.append((lease, segment))
    if active.tries:
        mended = _failed_before(active, segment)
        taken.mended += mended
        for point in mended:
            del active.tries[point]


def _failed_before(active: Active, segment: Segment) -> list[int]:
    points = segment.numbers().tolist()
    if len(points) <= len(active.tries):
        return [point for point in points if point in active.tries]
    return sorted(active.tries.keys() & points)


def _take_failures(
    active: Active, runner: RunnerAttempt, lease: Lease, told: list[FailedPoint], taken: Taken, now: float
) -> None:
    for point, kind, sentence, seconds in told:
        if not lease.left.remove(point, point + 1):
            continue
        tries = active.tries.get(point, 0) + 1
        failure = rules.after_failure(
            active.spec, point, tries, kind[:40], sentence[:SENTENCE_CHARS_MAX], seconds, runner.node, now
        )
        taken.failures.append(failure)
        if failure.retry_at_s is None:
            active.tries.pop(point, None)
        else:
            active.retry_later(failure)


def _outcomes(active: Active, taken: Taken) -> list[Outcome]:
    """What a search wants to hear: the metric that ranks, of points that are settled."""
    metric = active.spec.metrics[0].name
    found: list[Outcome] = []
    for _, segment in taken.segments:
        columns = dict(segment.metric_columns())
        values = columns[metric].tolist() if metric in columns else [None] * segment.points
        for point, value in zip(segment.numbers().tolist(), values, strict=True):
            is_number = isinstance(value, (int, float)) and math.isfinite(value)
            found.append((point, float(value) if is_number else None))
    return found + [(failure.point, None) for failure in taken.failures if failure.retry_at_s is None]


def _speeds(progress: Progress, runner: RunnerAttempt, taken: Taken) -> dict[str, float]:
    """What is known of speeds now. Failures, which may be quicker than results, tell one only before the first result:
    without any, chunks would stay as small as the first one.
    """
    is_first = not progress.done and progress.run == MAIN
    if taken.done:
        known = {} if is_first else progress.speeds
        return sizes.learn(known, runner.names, taken.done / max(taken.seconds, SECONDS_MIN * taken.done))
    if not taken.failures or not is_first:
        return progress.speeds
    count, seconds = len(taken.failures), sum(failure.seconds for failure in taken.failures)
    return sizes.learn(progress.speeds, runner.names, count / max(seconds, SECONDS_MIN * count))


def _progress(active: Active, runner: RunnerAttempt, taken: Taken, now: float) -> Progress:
    progress = active.progress
    # A worker may have computed everything before the last one of its runner was up.
    is_up = runner.is_ready or taken.done or taken.failures
    ready_at_s = progress.ready_at_s or (now if is_up else None)
    for_good = sum(1 for failure in taken.failures if failure.retry_at_s is None)
    faults = 0 if taken.done or taken.failures else progress.faults
    return active.snapshot(
        done=progress.done + taken.done,
        failed=progress.failed + for_good,
        stopped=progress.stopped + taken.stopped,
        metrics=_names(progress.metrics, taken),
        speeds=_speeds(progress, runner, taken),
        faults=faults,
        ready_at_s=ready_at_s,
        in_ram=progress.in_ram if taken.in_ram is None else progress.in_ram | {runner.node: taken.in_ram},
        backoffs=backoff.without(progress.backoffs, runner.node) if taken.has_come_up else progress.backoffs,
    )


def _names(known: tuple[str, ...], taken: Taken) -> tuple[str, ...]:
    """The metrics that points have returned, in the order in which they came."""
    new = {column[0] for _, segment in taken.segments for column in segment.columns}.difference(known)
    return (*known, *sorted(new))[:METRICS_KEPT] if new else known


def _save(connection: sqlite3.Connection, active: Active, taken: Taken) -> None:
    run = active.progress.run
    reports.add_reports(connection, active.id, run, taken.reports)
    reports.put_verdicts(connection, active.id, run, taken.verdicts)
    for lease, segment in taken.segments:
        ledger.add_segments(connection, active.id, run, lease.chunk.number, [segment])
    ledger.put_failures(connection, active.id, run, taken.failures)
    ledger.remove_failures(connection, active.id, run, taken.mended)
    for lease in taken.touched.values():
        if lease.left:
            ledger.put_chunk(connection, active.id, lease.record())
        else:
            ledger.settle_chunk(connection, active.id, lease.chunk)


def settle(connection: sqlite3.Connection, active: Active, attempt: str, leases: list[Lease]) -> None:
    """An attempt is over: its results are too late from now on, its leases are gone."""
    ledger.close_stream(connection, active.id, attempt)
    for lease in leases:
        ledger.settle_chunk(connection, active.id, lease.chunk)
