"""Copies a snapshot into an attempt's work folder.

Hard links would be wrong: the job may write into its files. `copy_file_range` shares the blocks on file systems that
can (btrfs, XFS) and copies inside the kernel on the others.
"""

from __future__ import annotations

import os
from typing import Collection, List, Tuple

from racksack_agent.supervisor.end import StopRequest

_SMALL_BYTES = 256 * 1024
_STEP_BYTES = 64 * 1024 * 1024
_COPIERS_MAX = min(4, os.cpu_count() or 1)


def copy_tree(source: str, target: str, stop: StopRequest, linked: Collection[str] = ()) -> None:
    """Copy files, links and folders, writable; of what is `linked` (paths below `source`) make links.

    Raises OSError, and PrepareError when a stop comes meanwhile.
    """
    os.makedirs(target, exist_ok=True)
    folders = [(source, target)]
    large: List[Tuple[str, str]] = []
    while folders:
        here, there = folders.pop()
        stop.check()
        with os.scandir(here) as entries:
            for entry in entries:
                path = there + "/" + entry.name
                if linked and entry.path[len(source) + 1 :] in linked:
                    os.symlink(entry.path, path)
                elif entry.is_symlink():
                    os.symlink(os.readlink(entry.path), path)
                elif entry.is_dir():
                    os.mkdir(path)
                    folders.append((entry.path, path))
                elif entry.stat().st_size > _SMALL_BYTES:
                    large.append((entry.path, path))
                else:
                    copy_file(entry.path, path)
    if large:
        copy_large(large, stop)


def copy_large(pairs: List[Tuple[str, str]], stop: StopRequest) -> None:
    """Copy files by a few threads; the kernel does the work. Raises as `copy_tree`, when no thread is left."""
    from concurrent.futures import ThreadPoolExecutor  # not for small projects: it would cost them milliseconds

    with ThreadPoolExecutor(_COPIERS_MAX) as copiers:
        try:
            for done in [copiers.submit(copy_file, *pair) for pair in pairs]:
                done.result()
                stop.check()
        except BaseException:
            copiers.shutdown(wait=True, cancel_futures=True)
            raise


def copy_file(source: str, target: str) -> None:
    """Copy one regular file that does not exist yet, with its executable bit. Raises OSError."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        info = os.fstat(reader)
        mode = 0o755 if info.st_mode & 0o100 else 0o644
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            if info.st_size <= _SMALL_BYTES:
                _write_all(writer, os.read(reader, info.st_size + 1))
            else:
                _copy_large(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _copy_large(reader: int, writer: int) -> None:
    try:
        while os.copy_file_range(reader, writer, _STEP_BYTES):
            pass
    except (OSError, AttributeError):  # two file systems that cannot do it together; an old kernel or C library
        _copy_by_hand(reader, writer)


def _copy_by_hand(reader: int, writer: int) -> None:
    os.lseek(reader, 0, os.SEEK_SET)
    os.lseek(writer, 0, os.SEEK_SET)
    while True:
        data = os.read(reader, 1024 * 1024)
        if not data:
            return
        _write_all(writer, data)
