"""Makes a backup while the controller runs: the store as it is at one moment, and then what it refers to.

The order is what makes it consistent. What the copy of the store refers to was in the spool when it was made; content
never changes and results do not once they are in place, so they may be copied afterwards. What is removed meanwhile
(results that their owner had deleted) is said. The manifest comes last: without it a backup is not whole.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import msgspec

from racksack_controller import accepted
from racksack_controller.recovery import contents
from racksack_controller.recovery.contents import Held, Manifest, Wanted
from racksack_controller.recovery.errors import RecoveryError
from racksack_controller.recovery.sinks import Sink
from racksack_jobspecs.layout import Spool

Say = Callable[[str], None]


def make(spool: Spool, sink: Sink, *, with_results: bool, scratch: Path) -> Manifest:
    """Put everything into the sink; `scratch` is a folder for the copy of the store.

    Raises RecoveryError, OSError.
    """
    if not spool.database.exists():
        raise RecoveryError(f"there is no store at {spool.database}; name the spool with --spool or --config")
    with tempfile.TemporaryDirectory(prefix=".racksack-backup-", dir=scratch) as folder:
        copy = Path(folder) / contents.DATABASE
        copy_store(spool.database, copy)
        try:
            with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                found = contents.wanted(connection)
                schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
                spool_id = connection.execute("SELECT value FROM meta WHERE key = 'spool_id'").fetchone()
        except sqlite3.Error as error:
            raise RecoveryError(
                f"the store {spool.database} has damaged records: {error}; run `racksack fsck`"
            ) from error
        files = {contents.DATABASE: sink.put_file(contents.DATABASE, copy)}
    held, missing = _put_trees(spool, found, sink, with_results)
    files |= _put_notes(spool, sink)
    manifest = Manifest(
        format=contents.FORMAT,
        version=version("racksack"),
        schema=schema,
        spool_id=str(spool_id[0]) if spool_id else "",
        made_at_s=time.time(),
        jobs=found.jobs,
        unfinished=found.unfinished,
        files=files,
        trees=held,
        missing=tuple(missing),
    )
    sink.finish(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def copy_store(database: Path, target: Path) -> None:
    """A copy of a store that may be in use, as it is at one moment, checked. Raises RecoveryError."""
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(database))}?mode=rw", uri=True, timeout=30)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)  # all in one step: writers go on beside it, and never make it begin again
            copy.execute("PRAGMA journal_mode = DELETE")
            mistakes = [row[0] for row in copy.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
    except sqlite3.Error as error:
        raise RecoveryError(f"the store {database} cannot be copied: {error}; run `racksack fsck`") from error
    if mistakes:
        raise RecoveryError(f"the store {database} is damaged ({mistakes[0]}); run `racksack fsck` before a backup")


def _put_trees(spool: Spool, found: Wanted, sink: Sink, with_results: bool) -> tuple[dict[str, Held], list[str]]:
    held: dict[str, Held] = {}
    missing = [
        f"snapshots/{digest}, which an unfinished job needs, is not in the spool"
        for digest in sorted(found.needed)
        if not (spool.snapshots / digest).is_dir()
    ]
    for name, path in contents.tree_names(spool, found, with_results):
        try:
            held[name] = sink.put_tree(name, path)
        except FileNotFoundError:
            sink.drop_tree(name)
            missing.append(f"{name} was removed while the backup was made")
    return held, missing


def _put_notes(spool: Spool, sink: Sink) -> dict[str, str]:
    """What was accepted. A note that goes meanwhile was about what has ended."""
    digests = {}
    for note in sorted(accepted.notes(spool), key=lambda one: one.first):
        try:
            digests[f"projects/{note.path.name}"] = sink.put_file(f"projects/{note.path.name}", note.path)
        except FileNotFoundError:
            continue
    return digests
