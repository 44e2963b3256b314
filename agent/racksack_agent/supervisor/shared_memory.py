"""Files in /dev/shm that a job's processes used when the job was ended: they had no chance to remove them, and the
files take the node's memory until somebody does. What a job that ends by itself leaves there is its own affair.
"""

from __future__ import annotations

import os
import stat
from typing import Iterable, Iterator, Set

_RAM = "/dev/shm/"  # noqa: S108 - nothing is made there
_OURS = _RAM + "racksack-"  # copies of project files, which have their own keeper (`ramdisk`, `ram_shared`)


def used_by(found: Iterable[int]) -> Set[str]:
    """The files there that processes have open or mapped."""
    return {path for process in found for path in _paths(process) if not path.startswith(_OURS)}


def remove_unused(paths: Set[str]) -> None:
    """Remove those that are this user's and that no process has open or mapped any more."""
    if not paths:
        return
    everybody = used_by(int(name) for name in os.listdir("/proc") if name.isdigit())
    for path in paths - everybody:
        try:
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid():
                os.unlink(path)
        except FileNotFoundError:
            continue


def _paths(process: int) -> Iterator[str]:
    for line in _lines(f"/proc/{process}/maps"):
        at = line.find(_RAM)
        if at >= 0:
            yield line[at:].rstrip("\n")
    folder = f"/proc/{process}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith(_RAM):
            yield target


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            yield from file
    except OSError:  # it has ended, or is not ours
        return
