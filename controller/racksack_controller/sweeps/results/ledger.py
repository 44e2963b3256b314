"""The ledger in the store: what is written and read about sweeps, chunks, results and failures, as SQL.

Everything here runs inside one transaction on the store's writing thread, or on a reading connection. A result counts
once because three things stand in one transaction: the segment, how far the attempt's results file has been stored,
and whether that attempt may still tell anything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from racksack_controller.core.sweeps.records import Chunk, Failure, Progress, Sweep
from racksack_controller.store import readable
from racksack_controller.sweeps.results.segments import POINTS_MAX, Segment, merge
from racksack_jobspecs.sweep.spec import Params

_encode = msgspec.json.Encoder().encode
_decode_sweep = msgspec.json.Decoder(Sweep).decode
_decode_progress = msgspec.json.Decoder(Progress).decode
_decode_chunk = msgspec.json.Decoder(Chunk).decode
_decode_params = msgspec.json.Decoder(Params).decode
_decode_columns = msgspec.json.Decoder(tuple[tuple[str, str, int], ...]).decode

VARIABLES_MAX = 500  # of one statement
SMALL_MAX = 256  # settled segments below POINTS_MAX points that may stand beside each other


# Sweeps


def add_sweep(connection: sqlite3.Connection, sweep: Sweep, progress: Progress) -> None:
    """A new sweep."""
    values = (
        sweep.id, sweep.owner, sweep.spec.name, sweep.spec.submission, str(progress.state), sweep.snapshot, sweep.code,
        sweep.submitted_at_s, progress.ended_at_s, _encode(sweep), _encode(progress),
    )  # fmt: skip
    connection.execute(
        "INSERT INTO sweeps (id, owner, name, submission, state, snapshot, code, submitted_at_s, ended_at_s, record, "
        "progress) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )


def save_progress(connection: sqlite3.Connection, sweep: int, progress: Progress) -> None:
    """How far a sweep is now."""
    connection.execute(
        "UPDATE sweeps SET state = ?, ended_at_s = ?, progress = ? WHERE id = ?",
        (str(progress.state), progress.ended_at_s, _encode(progress), sweep),
    )


def sweep_by_id(connection: sqlite3.Connection, sweep: int) -> tuple[Sweep, Progress] | None:
    """One sweep."""
    row = connection.execute("SELECT record, progress FROM sweeps WHERE id = ?", (sweep,)).fetchone()
    return None if row is None else next(readable(_decode_both, [(row,)], "sweeps"), None)


def _decode_both(row: tuple[bytes, bytes]) -> tuple[Sweep, Progress]:
    return _decode_sweep(row[0]), _decode_progress(row[1])


def sweeps_where(
    connection: sqlite3.Connection, condition: str, values: Sequence[object], limit: int
) -> list[tuple[Sweep, Progress]]:
    """Sweeps by a fixed SQL `condition` with its `values`, newest first."""
    sql = f"SELECT record, progress FROM sweeps WHERE {condition} ORDER BY id DESC LIMIT ?"  # noqa: S608 - ours
    rows = connection.execute(sql, (*values, limit))
    return list(readable(_decode_both, ((row,) for row in rows), "sweeps"))


def live_numbers(connection: sqlite3.Connection) -> list[int]:
    """The numbers of those that are not over, oldest first."""
    return [int(row[0]) for row in connection.execute("SELECT id FROM sweeps WHERE ended_at_s IS NULL ORDER BY id")]


def sweep_of_submission(connection: sqlite3.Connection, submission: str) -> int | None:
    """The sweep that one job file became."""
    row = connection.execute("SELECT id FROM sweeps WHERE submission = ?", (submission,)).fetchone()
    return None if row is None else int(row[0])


# Chunks and streams


def add_chunk(connection: sqlite3.Connection, sweep: int, chunk: Chunk) -> None:
    """A lease, and the stream that its results come through."""
    put_chunk(connection, sweep, chunk)
    connection.execute("INSERT OR IGNORE INTO sweep_streams VALUES (?, ?, 0, 1)", (chunk.attempt, sweep))


def put_chunk(connection: sqlite3.Connection, sweep: int, chunk: Chunk) -> None:
    """What is left of a lease."""
    connection.execute("INSERT OR REPLACE INTO sweep_chunks VALUES (?, ?, ?)", (sweep, chunk.number, _encode(chunk)))


def chunks_of(connection: sqlite3.Connection, sweep: int) -> list[Chunk]:
    """The leases that are not settled."""
    rows = connection.execute("SELECT record FROM sweep_chunks WHERE sweep = ? ORDER BY chunk", (sweep,))
    return [_decode_chunk(row[0]) for row in rows]


def settle_chunk(connection: sqlite3.Connection, sweep: int, chunk: Chunk) -> None:
    """A lease is over. Its segments stand with those of earlier ones, which are merged now and then."""
    connection.execute("DELETE FROM sweep_chunks WHERE sweep = ? AND chunk = ?", (sweep, chunk.number))
    connection.execute(
        "UPDATE sweep_segments SET chunk = 0 WHERE sweep = ? AND run = ? AND chunk = ?",
        (sweep, chunk.run, chunk.number),
    )
    where = "sweep = ? AND run = ? AND chunk = 0 AND points < ?"
    values = (sweep, chunk.run, POINTS_MAX)
    small = connection.execute(f"SELECT count(*) FROM sweep_segments WHERE {where}", values).fetchone()[0]  # noqa: S608
    if small > SMALL_MAX:
        compact(connection, sweep, chunk.run)


def compact(connection: sqlite3.Connection, sweep: int, run: int) -> None:
    """Make few segments of the small ones whose chunks are settled, one after another."""
    small = connection.execute(
        "SELECT id, points FROM sweep_segments WHERE sweep = ? AND run = ? AND chunk = 0 AND points < ? ORDER BY id",
        (sweep, run, POINTS_MAX),
    ).fetchall()
    for group in _groups(small):
        add_segments(connection, sweep, run, 0, [merge(segments_by_number(connection, group))])
        connection.executemany("DELETE FROM sweep_segments WHERE id = ?", [(number,) for number in group])


def _groups(sizes: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Ids in groups of up to POINTS_MAX points; `sizes` are ids and points."""
    group: list[int] = []
    total = 0
    for number, points in sizes:
        if group and total + points > POINTS_MAX:
            yield group
            group, total = [], 0
        group.append(number)
        total += points
    if group:
        yield group


def stream_position(connection: sqlite3.Connection, attempt: str) -> int | None:
    """How far an attempt's results have been stored; None when it may tell nothing any more."""
    row = connection.execute("SELECT position, is_open FROM sweep_streams WHERE attempt = ?", (attempt,)).fetchone()
    return None if row is not None and not row[1] else 0 if row is None else int(row[0])


def move_stream(connection: sqlite3.Connection, sweep: int, attempt: str, position: int) -> None:
    """Results have been stored up to here."""
    connection.execute(
        "INSERT INTO sweep_streams VALUES (?, ?, ?, 1) "
        "ON CONFLICT (attempt) DO UPDATE SET position = excluded.position",
        (attempt, sweep, position),
    )


def close_stream(connection: sqlite3.Connection, sweep: int, attempt: str) -> None:
    """Whatever this attempt tells from now on is too late."""
    connection.execute(
        "INSERT INTO sweep_streams VALUES (?, ?, 0, 0) ON CONFLICT (attempt) DO UPDATE SET is_open = 0",
        (attempt, sweep),
    )


def open_streams(connection: sqlite3.Connection, sweep: int) -> list[str]:
    """The attempts that may still tell something."""
    rows = connection.execute("SELECT attempt FROM sweep_streams WHERE sweep = ? AND is_open = 1", (sweep,))
    return [str(row[0]) for row in rows]


# Results


def add_segments(connection: sqlite3.Connection, sweep: int, run: int, chunk: int, segments: Iterable[Segment]) -> None:
    """Results of some points."""
    connection.executemany(
        "INSERT INTO sweep_segments (sweep, run, chunk, points, first, seconds_bytes, columns, data) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (sweep, run, chunk, one.points, one.first, one.seconds_bytes, _encode(one.columns).decode(), one.data)
            for one in segments
        ],
    )


def segments_of(
    connection: sqlite3.Connection, sweep: int, run: int = 0, chunk: int | None = None
) -> Iterator[Segment]:
    """The results of a run, or those of one chunk that is not settled."""
    if chunk is None:
        return (segment for _, segment in numbered_segments(connection, sweep, run))
    found = _segments(connection, "sweep = ? AND run = ? AND chunk = ?", (sweep, run, chunk))
    return (segment for _, segment in found)


def numbered_segments(connection: sqlite3.Connection, sweep: int, run: int) -> Iterator[tuple[int, Segment]]:
    """The results of a run, each segment with its number in the store."""
    return _segments(connection, "sweep = ? AND run = ?", (sweep, run))


def segments_by_number(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[Segment]:
    """Some segments in the order of their numbers; those that are gone are left out."""
    found: list[Segment] = []
    for first in range(0, len(numbers), VARIABLES_MAX):
        some = numbers[first : first + VARIABLES_MAX]
        found += [one for _, one in _segments(connection, f"id IN ({','.join('?' * len(some))})", tuple(some))]
    return found


def _segments(
    connection: sqlite3.Connection, condition: str, values: Sequence[object]
) -> Iterator[tuple[int, Segment]]:
    # By way of their ids, which come sorted: sorting whole rows would copy all results once more.
    ids = f"SELECT id FROM sweep_segments WHERE {condition}"  # noqa: S608 - conditions are ours
    sql = f"SELECT id, points, first, seconds_bytes, columns, data FROM sweep_segments WHERE id IN ({ids}) ORDER BY id"  # noqa: S608
    for number, points, first, seconds_bytes, columns, data in connection.execute(sql, values):
        yield (
            int(number),
            Segment(
                points=points, first=first, seconds_bytes=seconds_bytes, columns=_decode_columns(columns), data=data
            ),
        )


def remove_run(connection: sqlite3.Connection, sweep: int, run: int) -> None:
    """Forget all results and failures of a run."""
    connection.execute("DELETE FROM sweep_segments WHERE sweep = ? AND run = ?", (sweep, run))
    connection.execute("DELETE FROM sweep_failures WHERE sweep = ? AND run = ?", (sweep, run))


# Failures


def put_failures(connection: sqlite3.Connection, sweep: int, run: int, failures: Iterable[Failure]) -> None:
    """Points that failed, for good or until their retry."""
    connection.executemany(
        "INSERT OR REPLACE INTO sweep_failures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(sweep, run, *_failure_row(failure)) for failure in failures],
    )


def _failure_row(failure: Failure) -> tuple[Any, ...]:
    return (
        failure.point, failure.tries, failure.kind, failure.sentence, failure.seconds, failure.node, failure.at_s,
        failure.retry_at_s,
    )  # fmt: skip


def remove_failures(connection: sqlite3.Connection, sweep: int, run: int, points: Iterable[int]) -> None:
    """These points have done well after all, or begin anew."""
    connection.executemany(
        "DELETE FROM sweep_failures WHERE sweep = ? AND run = ? AND point = ?",
        [(sweep, run, point) for point in points],
    )


def failures_of(
    connection: sqlite3.Connection, sweep: int, run: int = 0, *, waiting: bool | None = None, limit: int = -1
) -> list[Failure]:
    """The failures of a run: those for good, those that wait for a retry (`waiting`), or all; by point."""
    condition = {None: "", True: " AND retry_at_s IS NOT NULL", False: " AND retry_at_s IS NULL"}[waiting]
    rows = connection.execute(
        "SELECT point, tries, kind, sentence, seconds, node, at_s, retry_at_s FROM sweep_failures "  # noqa: S608 - ours
        f"WHERE sweep = ? AND run = ?{condition} ORDER BY point LIMIT ?",
        (sweep, run, limit),
    )
    return [
        Failure(point=row[0], tries=row[1], kind=row[2], sentence=row[3], seconds=row[4], node=row[5], at_s=row[6],
                retry_at_s=row[7])
        for row in rows
    ]  # fmt: skip


# Parameters that were drawn


def add_params(connection: sqlite3.Connection, sweep: int, first: int, drawn: Sequence[Params]) -> None:
    """The parameters of points `first`, `first` + 1, ..."""
    rows = [(sweep, first + index, _encode(params)) for index, params in enumerate(drawn)]
    connection.executemany("INSERT INTO sweep_params VALUES (?, ?, ?)", rows)


def params_between(connection: sqlite3.Connection, sweep: int, low: int, high: int) -> dict[int, Params]:
    """The drawn parameters of points from `low` up to but without `high`."""
    sql = "SELECT point, params FROM sweep_params WHERE sweep = ? AND point >= ? AND point < ? ORDER BY point"
    return {int(point): _decode_params(data) for point, data in connection.execute(sql, (sweep, low, high))}


def tell(connection: sqlite3.Connection, sweep: int, now: float, sentence: str) -> None:
    """A line of the sweep's story."""
    connection.execute("INSERT INTO events (job, node, at_s, sentence) VALUES (?, NULL, ?, ?)", (sweep, now, sentence))
