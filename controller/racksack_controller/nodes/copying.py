"""Copies a folder on one machine by hard links where that is safe and possible, else by content.

A link is safe when the file has no other name: the two sides of the copy are each written once and only removed
afterwards, but a further name (a job may link its inputs into its outputs) would let a change to one reach a third.
"""

# Paths are bytes here, since names need not be UTF-8.
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH112, PTH114, PTH115, PTH118, PTH120, PTH211

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from racksack_controller.nodes.links import MUNGED


def copy(source: Path, target: Path, munge: bool = False) -> None:
    """Copy a folder (files, links, folders; nothing else) or a file, in place of what `target` has. Raises OSError."""
    from_path, to_path = os.fsencode(source), os.fsencode(target)
    info = os.lstat(from_path)
    _clear(to_path)
    os.makedirs(os.path.dirname(to_path), exist_ok=True)
    if stat.S_ISREG(info.st_mode):
        _copy_file(from_path, to_path, info, share=True)
        return
    os.makedirs(to_path, exist_ok=True)
    _copy_folder(from_path, to_path, munge)


def _copy_folder(source: bytes, target: bytes, munge: bool) -> None:
    pending = [(source, target)]
    while pending:
        here, there = pending.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                path = os.path.join(there, entry.name)
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    os.mkdir(path)
                    pending.append((entry.path, path))
                elif stat.S_ISLNK(info.st_mode):
                    os.symlink((MUNGED if munge else b"") + os.readlink(entry.path), path)
                elif stat.S_ISREG(info.st_mode):
                    _copy_file(entry.path, path, info, share=info.st_nlink == 1)


def _copy_file(source: bytes, target: bytes, info: os.stat_result, share: bool) -> None:
    if share:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES):
                raise
        else:
            return
    shutil.copyfile(source, target, follow_symlinks=False)
    os.chmod(target, 0o600 | (stat.S_IMODE(info.st_mode) & 0o755))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))


def _clear(path: bytes) -> None:
    """Remove what is at `path`; of a folder only what is inside, since it may be the caller's own."""
    if not os.path.isdir(path) or os.path.islink(path):
        if os.path.lexists(path):
            os.unlink(path)
        return
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def clear(folder: Path) -> None:
    """Make `folder` an empty folder. Raises OSError."""
    _clear(os.fsencode(folder))
    folder.mkdir(parents=True, exist_ok=True)


def kind_of(error: OSError) -> str:
    """The word of `TransferFailed` for an error of the file system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    return "missing" if error.errno == errno.ENOENT else "failed"
