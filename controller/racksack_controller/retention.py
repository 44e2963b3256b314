"""Old results leave the spool where `keep: returns` says so: by age, by the size of all, by the size of each user's.

Which ones is decided by `doomed`, without I/O. Those that their owner has fetched go first and at once. Others go when
they have been doomed for `warn`: the first round says so in the job's story, and a notice goes to whoever is told of
the job. What goes is what the job brought; its result.json stays, with a word of what became of the rest.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from racksack_controller.config.config import Returns
from racksack_controller.intake.garbage import remove_tree
from racksack_jobspecs.layout import Spool
from racksack_jobspecs.units import format_duration, format_memory

log = logging.getLogger("racksack.retention")

KEPT = "result.json"
NOTE = "EXPIRED.txt"


class Result(NamedTuple):
    """The return folder of a job or sweep that is over."""

    id: int
    owner: str
    ended_at_s: float
    fetched: bool
    size_bytes: int
    is_sweep: bool = False


def doomed(found: Sequence[Result], keep: Returns, now_s: float) -> dict[int, str]:
    """Which results are to go, by id, each with the rule that says so: fetched ones before others, the oldest first."""
    gone: dict[int, str] = {}
    if keep.age_s is not None:
        sentence = f"they are older than {format_duration(keep.age_s)}"
        gone = {one.id: sentence for one in found if one.ended_at_s < now_s - keep.age_s}
    if keep.per_user_bytes is not None:
        for owner in {one.owner for one in found}:
            sentence = f"the results of {owner} take more than {format_memory(keep.per_user_bytes)}"
            _shrink([one for one in found if one.owner == owner], keep.per_user_bytes, sentence, gone)
    if keep.size_bytes is not None:
        _shrink(found, keep.size_bytes, f"all results take more than {format_memory(keep.size_bytes)}", gone)
    return gone


def _shrink(found: Sequence[Result], most_bytes: int, sentence: str, gone: dict[int, str]) -> None:
    left = sum(one.size_bytes for one in found if one.id not in gone)
    for one in sorted(found, key=lambda one: (not one.fetched, one.ended_at_s, one.id)):
        if left <= most_bytes:
            return
        if one.id not in gone:
            gone[one.id] = sentence
            left -= one.size_bytes


def finished(connection: sqlite3.Connection, ids: Iterable[int]) -> list[Result]:
    """Those of these ids that are jobs or sweeps that are over; their sizes are not known yet."""
    found = []
    for number in ids:
        for table, is_sweep in (("jobs", False), ("sweeps", True)):
            sql = f"SELECT owner, ended_at_s, fetched FROM {table} WHERE id = ? AND ended_at_s IS NOT NULL"  # noqa: S608 - ours
            row = connection.execute(sql, (number,)).fetchone()
            if row is not None:
                found.append(Result(number, str(row[0]), float(row[1]), bool(row[2]), 0, is_sweep))
    return found


def warned_at_s(connection: sqlite3.Connection) -> dict[int, float]:
    """When the owners of results that are to go were warned, by id."""
    return {int(row[0]): float(row[1]) for row in connection.execute("SELECT id, at_s FROM returns_doomed")}


def warn(connection: sqlite3.Connection, sentences: dict[int, str], now_s: float) -> None:
    """Say in the stories of these what is going to happen to their results."""
    connection.executemany("INSERT OR IGNORE INTO returns_doomed VALUES (?, ?)", [(one, now_s) for one in sentences])
    rows = [(number, now_s, sentence) for number, sentence in sentences.items()]
    connection.executemany("INSERT INTO events (job, node, at_s, sentence) VALUES (?, NULL, ?, ?)", rows)


def spare(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """These are not to go any more, or have gone."""
    connection.executemany("DELETE FROM returns_doomed WHERE id = ?", [(number,) for number in ids])


class Sizes:
    """How much each return folder with results takes; one that has not changed is not walked through again."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}  # by id: (mtime of the folder, bytes)

    def of(self, spool: Spool) -> dict[int, int]:
        """By the id of the job or sweep. Runs in a thread. Raises OSError."""
        seen: dict[int, tuple[int, int]] = {}
        with os.scandir(spool.returns) as entries:
            for entry in entries:
                if _has_results(entry):
                    number, mtime = int(entry.name), entry.stat(follow_symlinks=False).st_mtime_ns
                    known = self._known.get(number)
                    seen[number] = known if known and known[0] == mtime else (mtime, _size_of(Path(entry.path)))
        self._known = seen
        return {number: size for number, (_, size) in seen.items()}


def _has_results(entry: os.DirEntry[str]) -> bool:
    is_folder = entry.name.isdigit() and entry.is_dir(follow_symlinks=False)
    return is_folder and not os.path.lexists(os.path.join(entry.path, NOTE))  # noqa: PTH118 - many


def _size_of(folder: Path) -> int:
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                size += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 - many
            except OSError:
                continue  # it was taken away meanwhile
    return size


def remove(spool: Spool, one: Result, sentence: str, now_s: float) -> bool:
    """Take the results away: of fetched ones the folder, of others all but result.json. Runs in a thread. Whether it
    worked; what stays is logged.
    """
    folder = spool.returned(one.id)
    try:
        if one.fetched:
            remove_tree(folder)
            return True
        for path in folder.iterdir():
            if path.name not in (KEPT, NOTE):
                remove_tree(path)
        when = time.strftime("%Y-%m-%d", time.localtime(now_s))
        (folder / NOTE).write_text(f"The results of {one.id} were removed by the controller on {when}: {sentence}.\n")
    except OSError as error:
        log.warning("cannot remove %s: %s", folder, error.strerror)
        return False
    return True
