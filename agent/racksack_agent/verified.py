"""Whether content on this node is still what its digest says.

It is read whole when it comes, and again before its first use after a restart of the machine: what had not reached the
disk is empty or cut then, under its old name. In between only what the file system says of its files is compared (a few
microseconds each), which tells when something wrote into them. `<digest>.verified` beside the folder is the record.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import Optional, Tuple

from racksack_agent import digest as content
from racksack_agent import records
from racksack_agent.boot import boot_id

MARK = ".verified"
MARKS = (MARK, ".used")
_LOOKED_AT_MAX = 50_000  # entries; looking at more would hold up each job that uses them


def note(path: str, boot: str) -> None:
    """Remember that the content at `path` was just read and is right. Raises OSError."""
    entries, state = state_of(path)
    records.replace(path + MARK, records.encode({"boot_id": boot, "entries": entries, "state": state}))


def is_noted(path: str, boot: str) -> bool:
    """Whether the content is here and was verified since this start of the machine."""
    record = records.read(path + MARK)
    return record is not None and record.get("boot_id") == boot and os.path.isdir(path)


def is_unchanged(path: str, boot: Optional[str] = None) -> bool:
    """Whether it was verified since this start of the machine, and nothing has written into it since. Raises OSError
    where a limit was reached.
    """
    record = records.read(path + MARK)
    if record is None or record.get("boot_id") != (boot if boot is not None else boot_id()):
        return False
    entries = record.get("entries")
    if isinstance(entries, int) and entries > _LOOKED_AT_MAX:
        return os.path.isdir(path)
    try:
        return [entries, record.get("state")] == list(state_of(path))
    except OSError as problem:
        if records.is_short(problem):
            raise
        return False


def is_whole(path: str, digest: str, boot: Optional[str] = None) -> bool:
    """Whether the content is right; read whole where `is_unchanged` does not tell. Raises OSError as that does."""
    boot = boot if boot is not None else boot_id()
    if is_unchanged(path, boot):
        return True
    try:
        if content.digest_and_size(path)[0] != digest:
            return False
        note(path, boot)
    except OSError as problem:
        if records.is_short(problem) or records.is_full(problem):
            raise
        return False
    except ValueError:
        return False
    return True


def remove(path: str, trash: str) -> bool:
    """Remove content, first out of sight (renamed to `trash`), so that nobody copies half of it; False when it is gone
    already. Raises OSError.
    """
    try:
        os.chmod(path, 0o700)  # a data set's folders are read-only, and such a one cannot be moved
        os.rename(path, trash)
    except FileNotFoundError:
        return False
    for mark in MARKS:
        records.remove_file(path + mark)
    remove_read_only(trash)
    return True


def remove_read_only(tree: str) -> None:
    """Remove a folder whose folders may be closed to writing, as those of data sets are."""
    for where, _, _ in os.walk(tree):
        os.chmod(where, 0o700)
    shutil.rmtree(tree, ignore_errors=True)


def state_of(root: str) -> Tuple[int, int]:
    """How many entries are below `root`, and a number that changes with sizes, times, kinds and identities of them.

    Neither times of status changes nor rights to write count: links from elsewhere and `data.protect` change those.
    """
    entries, state = 0, 0
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as found:
            for entry in found:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    pending.append(entry.path)
                kind = info.st_mode & (stat.S_IFMT(info.st_mode) | stat.S_IXUSR)
                entries += 1
                state += hash((info.st_ino, info.st_size, info.st_mtime_ns, kind))
    return entries, state & (2**52 - 1)  # JSON
