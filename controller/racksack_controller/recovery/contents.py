"""What belongs to a backup, and what its manifest says of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from racksack_controller.core.records import Job
from racksack_controller.store import snapshots_in_use
from racksack_jobspecs.layout import Spool

FORMAT = 1
DATABASE = "racksack.db"
MANIFEST = "manifest.json"
_decode_job = msgspec.json.Decoder(Job).decode


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Written last: a backup without it is not whole. Of trees: [files, bytes]."""

    format: int
    version: str
    schema: int
    spool_id: str
    made_at_s: float
    jobs: int
    unfinished: int
    snapshots: dict[str, tuple[int, int]]
    returns: dict[str, tuple[int, int]]
    notes: tuple[str, ...] = ()  # what was accepted, by file names in projects/
    missing: tuple[str, ...] = ()  # sentences about what could not be had


class Wanted(msgspec.Struct, frozen=True):
    """What a copy of the store refers to."""

    needed: frozenset[str]  # digests without which an unfinished job cannot run
    snapshots: frozenset[str]  # all digests that somebody may still refer to
    ended: tuple[int, ...]  # ids of jobs and sweeps that may have results
    jobs: int
    unfinished: int


def wanted(connection: sqlite3.Connection) -> Wanted:
    """What the store refers to. Raises sqlite3.Error."""
    needed = snapshots_in_use(connection, 2.0**60)
    known = {str(row[0]) for row in connection.execute("SELECT digest FROM snapshot_owners")}
    ended = "SELECT id FROM jobs WHERE ended_at_s IS NOT NULL UNION SELECT id FROM sweeps WHERE ended_at_s IS NOT NULL"
    count = "SELECT count(*), count(*) FILTER (WHERE ended_at_s IS NULL) FROM jobs"
    jobs, unfinished = connection.execute(count).fetchone()
    return Wanted(
        needed=frozenset(needed - {""}),
        snapshots=frozenset(needed | known) - {""},
        ended=tuple(int(row[0]) for row in connection.execute(ended)),
        jobs=int(jobs),
        unfinished=int(unfinished),
    )


def tree_names(spool: Spool, found: Wanted, with_results: bool) -> list[tuple[str, Path]]:
    """(name in the backup, path in the spool) of all trees that are there."""
    trees = [(f"snapshots/{digest}", spool.snapshots / digest) for digest in sorted(found.snapshots)]
    if with_results:
        trees += [(f"returns/{number}", spool.returned(number)) for number in found.ended]
    return [(name, path) for name, path in trees if path.is_dir() and not path.is_symlink()]
