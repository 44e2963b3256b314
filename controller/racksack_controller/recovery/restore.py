"""Brings a backup back into a spool, whatever stands there: nothing that is there is lost, and nothing is mixed.

The store of the spool is moved aside. Content that is there already stays. A return folder of the very same job stays,
since it may be newer than the backup; one of another job under the same number is moved aside. Everything is read and
checked before the first thing is changed, and the store comes last: a restore that broke off can be done again.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import defaultdict
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from racksack_controller import returns
from racksack_controller.acl import AclError, let_read, uid_to_open_to
from racksack_controller.intake.garbage import remove_tree
from racksack_controller.intake.ids import highest_id
from racksack_controller.pruning import last_id, raise_last_id
from racksack_controller.recovery import contents, trees
from racksack_controller.recovery.contents import Manifest
from racksack_controller.recovery.errors import RecoveryError, RefusedError
from racksack_controller.recovery.sinks import file_digest
from racksack_controller.store import open_database, write_identity
from racksack_jobspecs import durable
from racksack_jobspecs.bounds import UNDECODABLE
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.snapshot import digest_of, manifest_of

ACLS_AT_ONCE = 200  # folders of one call of setfacl


_FILE = re.compile(r"racksack\.db|projects/[0-9]+(-[0-9]+\.jobs|\.sweep)")
_TREE = re.compile(r"snapshots/[0-9a-f]{64}|returns/[0-9]{1,15}|checkpoints/[0-9]{1,15}/[0-9a-f]{1,128}")


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did."""

    jobs: int
    unfinished: int
    snapshots: int  # brought back; the others were there
    returns: int
    aside: tuple[str, ...]  # where what was in the way is now
    missing: tuple[str, ...]  # sentences


def put_back(spool: Spool, unpacked: Path, manifest: Manifest, *, force: bool) -> Restored:
    """Put an unpacked backup into the spool. The caller holds the spool's lock.

    Raises RefusedError (the spool has a store of its own), RecoveryError, OSError.
    """
    _check(unpacked, manifest)
    before = _jobs_in(spool.database)
    if before and not force:
        raise RefusedError(
            f"{spool.database} has {before} jobs; with --force it is moved aside (nothing is deleted) and the backup "
            "takes its place"
        )
    aside = _move_store_aside(spool)
    last = max([highest_id(spool), *(_last_id_in(path) for path in aside)])
    brought = [_bring_snapshot(spool, unpacked, digest) for digest in manifest.of("snapshots")]
    results, moved = _bring_returns(spool, unpacked, manifest)
    _bring_notes(spool, unpacked, manifest)
    _bring_checkpoints(spool, unpacked, manifest)
    _put_store(spool, unpacked / contents.DATABASE, last)
    if manifest.spool_id:
        write_identity(spool.database, manifest.spool_id)
    durable.sync_file_system(spool.root)
    return Restored(
        jobs=manifest.jobs,
        unfinished=manifest.unfinished,
        snapshots=sum(brought),
        returns=results,
        aside=tuple([path.name for path in aside] + moved),
        missing=manifest.missing,
    )


def _check(unpacked: Path, manifest: Manifest) -> None:
    """Whether all that the manifest names has arrived as it was. Raises RecoveryError."""
    try:
        with closing(sqlite3.connect(unpacked / contents.DATABASE)) as connection:
            mistakes = [row[0] for row in connection.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
    except sqlite3.Error as error:
        raise RecoveryError(f"the backup's store cannot be read: {error}") from error
    if mistakes:
        raise RecoveryError(f"the backup's store is damaged: {mistakes[0]}")
    for name, digest in manifest.files.items():
        if not _FILE.fullmatch(name) or not (unpacked / name).is_file() or file_digest(unpacked / name) != digest:
            raise RecoveryError(f"the backup is damaged: {name} is not as it was")
    for name, held in manifest.trees.items():
        path = unpacked / name
        if not _TREE.fullmatch(name) or not path.is_dir() or path.is_symlink() or trees.held_in(path) != held:
            raise RecoveryError(f"the backup is damaged: {name} is not as it was")


def _jobs_in(database: Path) -> int:
    """How many jobs and sweeps a store has; 1 for one that cannot be read, which is not to be lost either."""
    if not database.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            sql = "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM sweeps)"
            return int(connection.execute(sql).fetchone()[0])
    except sqlite3.OperationalError as error:
        return 0 if "no such table" in str(error) else 1
    except sqlite3.Error:
        return 1


def _move_store_aside(spool: Spool) -> list[Path]:
    """Rename the store with its journals; where it is now."""
    if not spool.database.exists():
        return []
    if not spool.database.stat().st_size:  # of a spool whose controller never ran
        spool.database.unlink()
        return []
    with suppress(sqlite3.Error), closing(sqlite3.connect(spool.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = spool.root / f"{contents.DATABASE}.before-{stamp}"
    count = 1
    while aside.exists():
        count += 1
        aside = spool.root / f"{contents.DATABASE}.before-{stamp}-{count}"
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            spool.database.with_name(contents.DATABASE + suffix).rename(aside.with_name(aside.name + suffix))
    spool.database.rename(aside)
    return [aside]


def _last_id_in(database: Path) -> int:
    try:
        with closing(sqlite3.connect(database)) as connection:
            return last_id(connection)
    except sqlite3.Error:
        return 0  # what it gave out has left its traces in the spool


def _bring_snapshot(spool: Spool, unpacked: Path, digest: str) -> bool:
    """Whether it was not there. One that is there and is not what its name says is replaced."""
    target = spool.snapshots / digest
    if target.is_dir():
        try:
            if digest_of(manifest_of(target)) == digest:
                return False
        except (OSError, ValueError):
            pass  # what is there is damaged, and there is a good one
        remove_tree(target)
    (unpacked / "snapshots" / digest).rename(target)
    target.chmod(0o700)
    return True


def _bring_returns(spool: Spool, unpacked: Path, manifest: Manifest) -> tuple[int, list[str]]:
    """Results that are not there. Of what is in the way the names that it has now."""
    moved: list[str] = []
    brought = 0
    for name in manifest.of("returns"):
        source, target = unpacked / "returns" / name, spool.returned(int(name))
        if target.exists():
            if identity(source) == identity(target):
                continue
            moved.append(f"returns/{returns.move_aside(spool, int(name)).name}")
        source.rename(target)
        brought += 1
    return brought, moved


def identity(folder: Path) -> tuple[object, ...]:
    """Which job or sweep a return folder is of."""
    result = returns.read_result(folder)
    if not result:
        with suppress(OSError, *UNDECODABLE):
            summary = msgspec.json.decode((folder / "summary.json").read_bytes())
            return ("sweep", summary.get("sweep"), summary.get("key"), summary.get("submitted_at_s"))
    return ("job", result.get("job"), result.get("key"), result.get("owner"), result.get("submitted_at_s"))


def _bring_notes(spool: Spool, unpacked: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        if name.startswith("projects/") and not (spool.root / name).exists():
            (unpacked / name).rename(spool.root / name)


def _bring_checkpoints(spool: Spool, unpacked: Path, manifest: Manifest) -> None:
    """What unfinished jobs have saved; the content is what its digest says, so what is there is the same."""
    for name in manifest.of("checkpoints"):
        target = spool.checkpoints / name
        if not target.is_dir():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            (unpacked / "checkpoints" / name).rename(target)


def _put_store(spool: Spool, copy: Path, last: int) -> None:
    """Bring the copy's schema up to date and its ids above all that were given out, and put it in place."""
    with closing(open_database(copy)) as connection:
        raise_last_id(connection, last)
        owners = connection.execute("SELECT digest, owner FROM snapshot_owners").fetchall()
        ended = connection.execute(
            "SELECT id, owner FROM jobs WHERE ended_at_s IS NOT NULL UNION "
            "SELECT id, owner FROM sweeps WHERE ended_at_s IS NOT NULL"
        ).fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
    copy.chmod(0o600)
    copy.rename(spool.database)
    _open_to_owners(spool, owners, ended)


def _open_to_owners(spool: Spool, owners: list[tuple[str, str]], ended: list[tuple[int, str]]) -> None:
    """Open content and results to those whose they are; nothing where all belongs to one user.

    Raises RecoveryError.
    """
    content, results = defaultdict(list), defaultdict(list)
    for digest, owner in owners:
        content[owner].append(spool.snapshots / digest)
    for number, owner in ended:
        results[owner].append(spool.returned(int(number)))
    for owner in {*content, *results}:
        uid = uid_to_open_to(owner)
        if uid is None:
            continue
        try:
            for paths, recursive in ((content[owner], False), (results[owner], True)):
                there = [path for path in paths if path.is_dir()]
                for low in range(0, len(there), ACLS_AT_ONCE):
                    let_read(uid, there[low : low + ACLS_AT_ONCE], recursive=recursive)
        except AclError as error:
            raise RecoveryError(f"{error}; the store is restored, run `racksack fsck --repair`") from error
