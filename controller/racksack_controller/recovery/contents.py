"""What belongs to a backup, and what its manifest says of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from racksack_controller.store import snapshots_in_use
from racksack_jobspecs.layout import Spool

FORMAT = 1
DATABASE = "racksack.db"
MANIFEST = "manifest.json"
KINDS = ("snapshots", "returns", "projects", "checkpoints")  # folders of the spool that are in a backup
_SAVED = """
    SELECT jobs.id, json_extract(one.value, '$.digest')
    FROM jobs, json_each(CAST(record AS TEXT), '$.checkpoints') AS one WHERE ended_at_s IS NULL
"""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What a tree holds."""

    files: int
    bytes: int
    digest: str  # of names, contents and links; see `trees`


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Written last: a backup without it is not whole. `files` has digests of single files, `trees` what each holds."""

    format: int
    version: str
    schema: int
    spool_id: str
    made_at_s: float
    jobs: int
    unfinished: int
    files: dict[str, str]  # the store, and the notes of what was accepted (projects/...)
    trees: dict[str, Held]  # snapshots/DIGEST, returns/ID, checkpoints/ID/DIGEST
    missing: tuple[str, ...] = ()  # sentences about what could not be had

    def of(self, kind: str) -> list[str]:
        """The names of the trees below one folder."""
        return [name.removeprefix(f"{kind}/") for name in self.trees if name.startswith(f"{kind}/")]


class Wanted(msgspec.Struct, frozen=True):
    """What a copy of the store refers to."""

    needed: frozenset[str]  # digests without which an unfinished job cannot run
    snapshots: frozenset[str]  # all digests that somebody may still refer to
    ended: tuple[int, ...]  # ids of jobs and sweeps that may have results
    saved: tuple[tuple[int, str], ...]  # checkpoints of unfinished jobs: id and digest
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
        saved=tuple((int(job), str(digest)) for job, digest in connection.execute(_SAVED)),
        jobs=int(jobs),
        unfinished=int(unfinished),
    )


def tree_names(spool: Spool, found: Wanted, with_results: bool) -> list[tuple[str, Path]]:
    """(name in the backup, path in the spool) of all trees that are there."""
    trees = [(f"snapshots/{digest}", spool.snapshots / digest) for digest in sorted(found.snapshots)]
    trees += [(f"checkpoints/{job}/{digest}", spool.checkpoints / str(job) / digest) for job, digest in found.saved]
    if with_results:
        trees += [(f"returns/{number}", spool.returned(number)) for number in found.ended]
    return [(name, path) for name, path in trees if path.is_dir() and not path.is_symlink()]
