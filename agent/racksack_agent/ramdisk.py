"""Copies paths of a project into memory (/dev/shm) for jobs that read them again and again; removed when the attempt
ends.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import Sequence

from racksack_agent import copying
from racksack_agent.ending import StopRequest
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import PrepareError

_RAM = "/dev/shm"  # noqa: S108 - made with mode 0700 below


def ram_folder(folder: AttemptFolder) -> str:
    """Where this attempt's copies are; two homes of one user do not meet there."""
    home = hashlib.sha256(os.fsencode(folder.home.root)).hexdigest()[:12]
    return f"{_RAM}/racksack-{os.getuid()}-{home}/{folder.name}"


def stage(folder: AttemptFolder, paths: Sequence[str], stop: StopRequest) -> str:
    """Copy the paths and compare checksums; returns the folder. Raises PrepareError, OSError where memory is full."""
    target = ram_folder(folder)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    if os.stat(os.path.dirname(target)).st_uid != os.getuid():
        raise PrepareError(f"{os.path.dirname(target)} belongs to somebody else")
    os.makedirs(target, mode=0o700)
    for path in paths:
        source = os.path.join(folder.work, path)
        if not os.path.realpath(source).startswith(os.path.realpath(folder.work) + "/") or not os.path.exists(source):
            raise PrepareError(f"the project has no {path} to copy into memory")
        copy = os.path.join(target, path)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        if os.path.isdir(source):
            copying.copy_tree(source, copy, stop)
        else:
            copying.copy_file(source, copy)
        compare(source, copy)
    return target


def compare(source: str, copy: str) -> None:
    """Raises PrepareError unless the copy has the content of the source: memory without ECC is a reason to look."""
    names = [""] if os.path.isfile(source) else _files(source)
    for name in names:
        if _checksum(source + name) != _checksum(copy + name):
            raise PrepareError(f"the copy of {source + name} in memory differs from the file")


def _files(folder: str) -> list[str]:
    found = []
    for here, _, names in os.walk(folder):
        found += [os.path.join(here, name)[len(folder) :] for name in names]
    return [name for name in found if not os.path.islink(folder + name)]


def _checksum(path: str) -> bytes:
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.digest()


def remove(folder: AttemptFolder) -> None:
    """Give the memory back; nothing there is fine."""
    shutil.rmtree(ram_folder(folder), ignore_errors=True)
