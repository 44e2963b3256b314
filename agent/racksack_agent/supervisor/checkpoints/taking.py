"""Copies the files of a checkpoint so that the copy is of one moment: a file counts only if it did not change while it
was read, and several only if none of them changed meanwhile.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Callable, Dict, List, NamedTuple, Sequence

from racksack_agent.supervisor.checkpoints.chosen import Incomplete

_STEP_BYTES = 16 << 20
_TICK_S = 0.02  # within this two writes may bear one time: what is younger may change unnoticed

Version = List[int]  # device, inode, size, times of content and of inode in ns: changed if any of them is another


class Taken(NamedTuple):
    """What was copied."""

    versions: Dict[str, Version]  # by path
    files: int
    bytes: int


def versions_of(work: str, paths: Sequence[str]) -> Dict[str, Version]:
    """What tells later whether anything changed. Raises Incomplete when one is gone."""
    found = {}
    for path in paths:
        try:
            found[path] = _version(os.lstat(f"{work}/{path}"))
        except FileNotFoundError:
            raise Incomplete(f"{path} was replaced while it was read") from None
    return found


def wait_for_the_tick(versions: Dict[str, Version]) -> None:
    """Wait until a further write could not bear the time of the last one."""
    newest_s = max((version[3] for version in versions.values()), default=0) / 1e9
    time.sleep(min(max(0.0, newest_s + _TICK_S - time.time()), _TICK_S))


def take(
    work: str,
    versions: Dict[str, Version],
    target: str,
    earlier: Dict[str, Version],
    earlier_root: str,
    check: Callable[[], None],
) -> Taken:
    """Copy all files to `target`; what is as in the `earlier` checkpoint is linked to its copy there.

    `check` raises to give up. Raises Incomplete, OSError.
    """
    taken: Dict[str, Version] = {}
    files = size_bytes = 0
    for path in versions:
        check()
        source, copy = f"{work}/{path}", f"{target}/{path}"
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        if stat.S_ISLNK(os.lstat(source).st_mode):
            os.symlink(os.readlink(source), copy)
            taken[path] = versions[path]
            continue
        if earlier.get(path) == versions[path] and _linked(f"{earlier_root}/{path}", copy):
            taken[path] = versions[path]
        else:
            taken[path] = _copied(source, copy, path, check)
        files, size_bytes = files + 1, size_bytes + taken[path][2]
    if len(versions) > 1 and versions_of(work, list(versions)) != versions:
        raise Incomplete("its files changed while they were read")
    return Taken(taken, files, size_bytes)


def _copied(source: str, copy: str, path: str, check: Callable[[], None]) -> Version:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(reader)
        if not stat.S_ISREG(before.st_mode):
            raise Incomplete(f"{path} is no file")
        mode = 0o755 if before.st_mode & 0o100 else 0o644
        writer = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _copy_content(reader, writer, before.st_size, check)
            os.utime(writer, ns=(before.st_atime_ns, before.st_mtime_ns))  # by which rsync tells what it has
            copied = os.fstat(writer).st_size
        finally:
            os.close(writer)
        after = os.fstat(reader)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or copied != before.st_size:
            raise Incomplete(f"{path} changed while it was read")
        return _version(after)
    finally:
        os.close(reader)


def _copy_content(reader: int, writer: int, size_bytes: int, check: Callable[[], None]) -> None:
    """Sharing blocks where the file system can. Raises what `check` raises."""
    done = 0
    try:
        while done < size_bytes:
            moved = os.copy_file_range(reader, writer, min(_STEP_BYTES, size_bytes - done))
            if not moved:
                break
            done += moved
            check()
    except (OSError, AttributeError):  # two file systems that cannot do it together; an old C library
        done = 0
        os.lseek(reader, 0, os.SEEK_SET)
        os.lseek(writer, 0, os.SEEK_SET)
        while data := os.read(reader, 1 << 20):
            check()
            while data:
                data = data[os.write(writer, data) :]


def _linked(earlier: str, copy: str) -> bool:
    try:
        os.link(earlier, copy, follow_symlinks=False)
    except OSError:
        return False  # there is none any more, or it has too many names: it is copied
    return True


def _version(info: os.stat_result) -> Version:
    return [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
