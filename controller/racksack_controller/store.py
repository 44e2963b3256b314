"""SQLite, the one durable truth. One writer: every write goes through one thread and is one transaction.

`synchronous = FULL`: a step that was saved survives a power cut of the controller. Reads for the page and the API use
connections of their own, so that they never wait for a write.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from racksack_controller.core.power_records import PowerLine, PowerRecord
from racksack_controller.core.queue.fair_share import OwnerUse
from racksack_controller.core.queue.history import HistoryKey, RunHistory
from racksack_controller.core.state import Attempt, Changes, Job, Node, State
from racksack_controller.pruning import last_id
from racksack_jobspecs.bounds import UNDECODABLE
from racksack_jobspecs.states import FINAL, JobState
from racksack_jobspecs.sweep.states import SweepState

T = TypeVar("T")
log = logging.getLogger("racksack.store")
NO_RUNNERS = "submission NOT GLOB 'sweep-[0-9]*-[0-9]*'"
"""A condition on jobs: keys of users' submissions begin with their owner and a colon, those of runners with this."""
_MAPPED_BYTES = 1 << 30
IDENTITY = "spool.id"  # the file beside the store
READERS = 4  # queries that run at the same time
READ_S = 20.0  # a query that takes longer is interrupted
PROGRESS_STEPS = 100_000  # of SQLite's virtual machine between two looks at the clock
_encode = msgspec.json.Encoder().encode
_decode_job = msgspec.json.Decoder(Job).decode
_decode_attempt = msgspec.json.Decoder(Attempt).decode
_decode_node = msgspec.json.Decoder(Node).decode
_decode_usage = msgspec.json.Decoder(OwnerUse).decode
_decode_power = msgspec.json.Decoder(PowerRecord).decode
_decode_history = msgspec.json.Decoder(RunHistory).decode


class StoreError(Exception):
    """The store cannot be used; the sentence says which file and what SQLite said."""


class StoryLine(msgspec.Struct, frozen=True):
    """One line of the story of a job or a node."""

    at_s: float
    sentence: str
    job: int | None = None
    node: str | None = None


def program_key(key: HistoryKey) -> str:
    """The key of a program's history as it is stored."""
    return _encode(key).decode()


def open_database(path: Path) -> sqlite3.Connection:
    """Open the store for writing and bring its schema up to date. Raises StoreError."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA busy_timeout = 5000")
        _migrate(connection)
    except sqlite3.Error as error:
        raise StoreError(f"the store {path} cannot be used: {error}; see docs/operating.md, 'The store'") from error
    return connection


def read_identity(database: Path) -> str:
    """The id of a spool as it stands beside its store, which may be lost; empty where there is none."""
    try:
        text = database.with_name(IDENTITY).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.isalnum() and len(text) <= 64 else ""


def write_identity(database: Path, spool_id: str) -> None:
    """Note the id beside the store. Without it a store that is built again takes another one."""
    path = database.with_name(IDENTITY)
    beside = path.with_name(f".{IDENTITY}.new")
    try:
        beside.write_text(spool_id + "\n")
        beside.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)


def open_snapshot(path: Path) -> sqlite3.Connection:
    """A connection that sees the store as it is now, for as long as it is open. For the thread that opens it.

    Raises StoreError.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = _open_for_reading(path)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the view begins with the first read
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise StoreError(f"the store {path} could not be read: {error}") from error
    return connection


def _open_for_reading(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path))}?mode=rw"  # which makes no new store; reading writes to the index of the WAL
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")  # a sweep's million results are read without copies
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Run the numbered migrations that this store has not seen, each in a transaction of its own."""
    done: int = connection.execute("PRAGMA user_version").fetchone()[0]
    scripts = sorted(
        (entry for entry in resources.files("racksack_controller").joinpath("migrations").iterdir()),
        key=lambda entry: entry.name,
    )
    numbered = [(int(entry.name[:4]), entry) for entry in scripts if entry.name.endswith(".sql")]
    newest = max(number for number, _ in numbered)
    if done > newest:
        raise sqlite3.DatabaseError(f"it was written by a newer racksack (schema {done}, this one knows {newest})")
    for number, entry in numbered:
        if number > done:
            script = f"BEGIN IMMEDIATE; {entry.read_text()} PRAGMA user_version = {number}; COMMIT;"
            connection.executescript(script)


class Store:
    """The store of one spool."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = open_database(path)
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()  # those that no thread has just now
        for _ in range(READERS):
            self._readers.put(_open_for_reading(path))
        self._looker = _open_for_reading(path)
        self._write_thread = ThreadPoolExecutor(1, "store-write")
        self._read_threads = ThreadPoolExecutor(READERS, "store-read")
        self.spool_id = self._spool_id()

    def close(self) -> None:
        """Finish what is under way and close the file."""
        self._write_thread.shutdown()
        self._read_threads.shutdown()
        for _ in range(READERS):
            self._readers.get().close()
        self._looker.close()
        self._writer.close()

    def _spool_id(self) -> str:
        """A name for this spool, so that two controllers never take each other's attempts on a node for orphans."""
        row = self._writer.execute("SELECT value FROM meta WHERE key = 'spool_id'").fetchone()
        noted = read_identity(self.path)
        found = str(row[0]) if row is not None else noted or uuid.uuid4().hex[:12]
        if row is None:
            self._writer.execute("INSERT INTO meta VALUES ('spool_id', ?)", (found,))
        if found != noted:
            write_identity(self.path, found)
        return found

    def load(self) -> State:
        """Everything that is not over, as the state to go on from."""
        state = State()
        state.epoch = secrets.token_hex(4)
        state.load(
            self._records(_decode_job, "jobs WHERE ended_at_s IS NULL ORDER BY id"),
            self._records(_decode_attempt, "attempts WHERE live = 1 ORDER BY job, number, rank"),
            self._records(_decode_node, "nodes ORDER BY name"),
            self._records(_decode_usage, "usage"),
            self._records(_decode_history, "history"),
            self._records(_decode_power, "power ORDER BY node"),
            broken_of_live_arrays(self._writer),
        )
        return state

    def _records(self, decode: Callable[[bytes], T], rows: str) -> Iterator[T]:
        """The records of a table. One that cannot be read is left where it is and out of the state, and said."""
        return readable(decode, self._writer.execute(f"SELECT record FROM {rows}"), rows.partition(" ")[0])  # noqa: S608

    def last_job_id(self) -> int:
        """The highest id ever given to a job or a sweep, 0 for a new store."""
        return last_id(self._writer)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction on the writing thread. Raises StoreError; then nothing was changed."""
        return await asyncio.get_running_loop().run_in_executor(self._write_thread, self._transaction, work)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on a reading thread, for READ_S at most. Raises StoreError."""
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self._query, work)

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Look something up by an index, at once: in WAL mode it takes microseconds and never waits for a write.

        For single rows on the way of every job, where a change of threads would cost ten times as much.
        Raises StoreError.
        """
        try:
            return work(self._looker)
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} could not be read: {error}") from error

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            result = work(self._writer)
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise StoreError(f"the store {self.path} could not be written: {error}") from error
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        return result

    def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._readers.get()
        deadline = time.monotonic() + READ_S
        connection.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
        try:
            return work(connection)
        except sqlite3.Error as error:
            if time.monotonic() > deadline:
                raise StoreError(f"reading this took more than {READ_S:g} s; ask for less of it") from error
            raise StoreError(f"the store {self.path} could not be read: {error}") from error
        finally:
            connection.set_progress_handler(None, 0)
            self._readers.put(connection)

    async def save(self, changes: Changes) -> None:
        """Save all that a step changed."""
        if changes:
            await self.write(lambda connection: save_changes(connection, changes))


def readable(decode: Callable[[Any], T], rows: Iterable[tuple[Any]], table: str) -> Iterator[T]:
    """The records of rows, those that are damaged left out and said: one of them is nobody else's trouble."""
    for (record,) in rows:
        try:
            yield decode(record)
        except UNDECODABLE as error:
            log.error("a record of the table %s is damaged and was skipped (%s); see `racksack fsck`", table, error)


def save_changes(connection: sqlite3.Connection, changes: Changes) -> None:
    """Write the changed records and the new lines of the story."""
    connection.executemany(_SAVE_JOB, map(_job_row, changes.jobs))
    connection.executemany(_SAVE_ATTEMPT, map(_attempt_row, changes.attempts))
    connection.executemany(
        "INSERT INTO nodes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record",
        [(node.name, _encode(node)) for node in changes.nodes],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO usage VALUES (?, ?)", [(use.owner, _encode(use)) for use in changes.usage]
    )
    connection.executemany(
        "INSERT OR REPLACE INTO history VALUES (?, ?)",
        [(program_key(record.key), _encode(record)) for record in changes.history],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO power VALUES (?, ?)", [(power.node, _encode(power)) for power in changes.power]
    )
    connection.executemany(
        "INSERT INTO power_events (at_s, node, kind, way, sentence) VALUES (?, ?, ?, ?, ?)",
        map(msgspec.structs.astuple, changes.power_lines),
    )
    connection.executemany("INSERT INTO events (job, node, at_s, sentence) VALUES (?, ?, ?, ?)", changes.events)


_SAVE_JOB = """
INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, ended_at_s = excluded.ended_at_s, fetched = excluded.fetched, record = excluded.record
"""
_SAVE_ATTEMPT = """
INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job, number, rank) DO UPDATE SET
    state = excluded.state, live = excluded.live, record = excluded.record
"""


def _job_row(job: Job) -> tuple[Any, ...]:
    return (
        job.id,
        job.spec.submission,
        job.array_index,
        job.owner,
        job.spec.name,
        str(job.state),
        job.snapshot,
        job.submitted_at_s,
        job.ended_at_s,
        int(job.fetched),
        _encode(job),
    )


def _attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    live = not (attempt.removed and attempt.state in FINAL)
    return (attempt.job, attempt.number, attempt.rank, attempt.node, str(attempt.state), int(live), _encode(attempt))


def broken_of_live_arrays(connection: sqlite3.Connection) -> dict[int, dict[int, JobState]]:
    """The elements that ended otherwise than done, by array, of arrays of which not all is over."""
    sql = """
        SELECT DISTINCT submission, (SELECT min(id) FROM jobs AS first WHERE first.submission = jobs.submission)
        FROM jobs WHERE ended_at_s IS NULL AND array_index IS NOT NULL
    """
    arrays = {int(row[1]): broken_elements(connection, row[0]) for row in connection.execute(sql).fetchall()}
    return {array: elements for array, elements in arrays.items() if elements}


def broken_elements(connection: sqlite3.Connection, submission: str, limit: int = -1) -> dict[int, JobState]:
    """The elements of an array that ended otherwise than done, by the submission that all of them share."""
    sql = (
        "SELECT id, state FROM jobs WHERE submission = ? AND ended_at_s IS NOT NULL AND state != 'done' "
        "ORDER BY id LIMIT ?"
    )
    return {int(row[0]): JobState(row[1]) for row in connection.execute(sql, (submission, limit))}


def is_whole(connection: sqlite3.Connection, submission: str) -> bool:
    """Whether all elements of an array are there; they are added in parts."""
    sql = "SELECT 1 FROM arrays WHERE submission = ?1 AND size > (SELECT count(*) FROM jobs WHERE submission = ?1)"
    return connection.execute(sql, (submission,)).fetchone() is None


def sweep_state(connection: sqlite3.Connection, number: int) -> SweepState | None:
    """Where a sweep is; None when there is none of this id."""
    row = connection.execute("SELECT state FROM sweeps WHERE id = ?", (number,)).fetchone()
    return None if row is None else SweepState(row[0])


def jobs_where(
    connection: sqlite3.Connection,
    condition: str,
    values: Sequence[object],
    limit: int,
    newest: Literal["id", "ended_at_s"] = "id",
) -> list[Job]:
    """Jobs by a fixed SQL `condition` with its `values`; the newest come first, by id or by when they ended."""
    sql = f"SELECT record FROM jobs WHERE {condition} ORDER BY {newest} DESC LIMIT ?"  # noqa: S608 - all of it is ours
    return list(readable(_decode_job, connection.execute(sql, (*values, limit)), "jobs"))


def jobs_by_id(connection: sqlite3.Connection, ids: Iterable[int]) -> list[Job]:
    """The jobs with these ids, those unknown left out."""
    found = []
    for job_id in ids:
        found += jobs_where(connection, "id = ?", (job_id,), 1)
    return found


def attempts_of(connection: sqlite3.Connection, job_id: int) -> list[Attempt]:
    """All attempts at a job, first to last; each rank of a gang is one."""
    rows = connection.execute("SELECT record FROM attempts WHERE job = ? ORDER BY number, rank", (job_id,))
    return list(readable(_decode_attempt, rows, "attempts"))


def last_attempts(connection: sqlite3.Connection, jobs: Iterable[Job]) -> dict[int, list[Attempt]]:
    """The latest attempt of each of these jobs, by job id: one record, or one for each rank of a gang."""
    sql = "SELECT record FROM attempts WHERE job = ? AND number = ? ORDER BY rank"
    found = {}
    for job in jobs:
        rows = connection.execute(sql, (job.id, job.attempt))
        found[job.id] = list(readable(_decode_attempt, rows, "attempts"))
    return found


def ended_attempts(
    connection: sqlite3.Connection, since_s: float, owner: str | None, limit: int
) -> list[tuple[Job, Attempt]]:
    """The attempts at jobs that ended since a time, newest job first, with their jobs."""
    sql = """
        SELECT jobs.record, attempts.record FROM jobs JOIN attempts ON attempts.job = jobs.id
        WHERE jobs.ended_at_s >= ? AND (? IS NULL OR jobs.owner = ?)
        ORDER BY jobs.ended_at_s DESC, attempts.number, attempts.rank LIMIT ?
    """
    rows = connection.execute(sql, (since_s, owner, owner, limit))
    return list(readable(_decode_pair, ((row,) for row in rows), "attempts"))


def _decode_pair(row: tuple[bytes, bytes]) -> tuple[Job, Attempt]:
    return _decode_job(row[0]), _decode_attempt(row[1])


def all_nodes(connection: sqlite3.Connection) -> list[Node]:
    """Every node that was ever seen, as it was last."""
    return list(readable(_decode_node, connection.execute("SELECT record FROM nodes ORDER BY name"), "nodes"))


def story(connection: sqlite3.Connection, *, job: int | None = None, node: str | None = None) -> list[StoryLine]:
    """The last 500 lines of the story of a job or a node, oldest first."""
    column, value = ("job", job) if job is not None else ("node", node)
    sql = f"SELECT at_s, sentence, job, node FROM events WHERE {column} = ? ORDER BY id DESC LIMIT 500"  # noqa: S608
    return [StoryLine(*row) for row in connection.execute(sql, (value,))][::-1]


def power_story(connection: sqlite3.Connection, since_s: float, *, node: str | None = None) -> list[PowerLine]:
    """The last 2000 lines of the power story of one node, or of all, since a time, oldest first."""
    where, values = ("", ()) if node is None else ("node = ? AND", (node,))
    sql = (
        f"SELECT at_s, node, kind, way, sentence FROM power_events WHERE {where} at_s >= ? ORDER BY id DESC LIMIT 2000"  # noqa: S608
    )
    return [PowerLine(*row) for row in connection.execute(sql, (*values, since_s))][::-1]


def save_fetched(connection: sqlite3.Connection, job: Job) -> bool:
    """Note that the owner has the results of a finished job; False when it has been run again since `job` was read."""
    found = jobs_by_id(connection, [job.id])
    if not found or found[0].ended_at_s is None or found[0].attempt != job.attempt:
        return False
    now = found[0]
    record = _encode(msgspec.structs.replace(now, fetched=True))
    connection.execute("UPDATE jobs SET fetched = 1, record = ? WHERE id = ?", (record, job.id))
    return True


def digest_of_upload(connection: sqlite3.Connection, upload: str, owner: str) -> str | None:
    """The snapshot that an upload of this owner became."""
    row = connection.execute("SELECT digest FROM uploads WHERE upload = ? AND owner = ?", (upload, owner)).fetchone()
    return str(row[0]) if row else None


def save_upload(connection: sqlite3.Connection, upload: str, owner: str, digest: str, now: float) -> None:
    """Note that an upload is this content, and that its owner may refer to the content from now on."""
    connection.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?)", (upload, owner, digest, now))
    connection.execute("INSERT OR IGNORE INTO snapshot_owners VALUES (?, ?)", (digest, owner))


def owner_has_snapshot(connection: sqlite3.Connection, digest: str, owner: str) -> bool:
    """Whether this owner uploaded this content before."""
    sql = "SELECT 1 FROM snapshot_owners WHERE digest = ? AND owner = ?"
    return connection.execute(sql, (digest, owner)).fetchone() is not None


def snapshots_in_use(connection: sqlite3.Connection, since_s: float) -> set[str]:
    """Digests of jobs and sweeps that are not over, or that were submitted since a time, and of recurring jobs."""
    rows = connection.execute(
        "SELECT snapshot FROM jobs WHERE ended_at_s IS NULL OR submitted_at_s >= ?1 "
        "UNION SELECT snapshot FROM sweeps WHERE ended_at_s IS NULL OR submitted_at_s >= ?1 "
        "UNION SELECT json_extract(used.value, '$.digest') FROM jobs, json_each(jobs.record, '$.data') AS used "
        "WHERE jobs.ended_at_s IS NULL "
        "UNION SELECT json_extract(used.value, '$.digest') FROM sweeps, json_each(sweeps.record, '$.data') AS used "
        "WHERE sweeps.ended_at_s IS NULL "
        "UNION SELECT digest FROM data_sets "
        "UNION SELECT json_extract(record, '$.snapshot') FROM recurring "
        "UNION SELECT json_extract(used.value, '$.digest') FROM recurring, json_each(record, '$.data') AS used",
        (since_s,),
    )
    return {str(row[0]) for row in rows}


def forget_snapshots(connection: sqlite3.Connection, digests: Iterable[str]) -> None:
    """Nobody may refer to these any more: they were removed."""
    values = [(digest,) for digest in digests]
    connection.executemany("DELETE FROM snapshot_owners WHERE digest = ?", values)
    connection.executemany("DELETE FROM uploads WHERE digest = ?", values)


def unfinished_ids(connection: sqlite3.Connection) -> tuple[int, list[int]]:
    """The highest id so far, and the ids of jobs and sweeps that have not ended."""
    sql = "SELECT id FROM jobs WHERE ended_at_s IS NULL UNION SELECT id FROM sweeps WHERE ended_at_s IS NULL"
    return last_id(connection), [int(row[0]) for row in connection.execute(sql)]


def unfetched_before(connection: sqlite3.Connection, number: int, limit: int) -> list[Job]:
    """The last finished jobs below an id whose results nobody has fetched."""
    return jobs_where(connection, "ended_at_s IS NOT NULL AND fetched = 0 AND id < ?", (number,), limit)
