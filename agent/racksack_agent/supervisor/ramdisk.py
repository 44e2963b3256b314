"""Copies paths of a project into memory (/dev/shm) for jobs that read them again and again.

A job has a copy of its own, which goes when the attempt ends; the runners of sweeps share one (see `ram_shared`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from typing import Iterator, Sequence, Tuple

from racksack_agent import records
from racksack_agent.home import AttemptFolder, Home
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.supervisor import copying
from racksack_agent.supervisor.end import StopRequest

_RAM = "/dev/shm"  # noqa: S108 - made with mode 0700 below
_BLOCK_BYTES = 1 << 20


def home_folder(home: Home) -> str:
    """Where all copies of one home are; two homes of one user do not meet there."""
    key = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]
    return f"{_RAM}/racksack-{os.getuid()}-{key}"


def make_folder(home: Home, name: str) -> str:
    """Make a folder in the home's, which is closed to others; returns it. Whoever ends meanwhile may remove empty ones.

    Raises NodeAtFaultError when somebody else made the home's folder before us, OSError.
    """
    while True:
        try:
            path = _make_home_folder(home)
            for part in name.split("/"):
                path += "/" + part
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, 0o700)
            return path
        except FileNotFoundError:
            continue  # it was empty, and went before ours was in it


def _make_home_folder(home: Home) -> str:
    path = home_folder(home)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if not _is_ours(path):
        raise NodeAtFaultError(f"{path} belongs to another user")
    os.chmod(path, 0o700)
    return path


def _is_ours(path: str) -> bool:
    """Whether it is a folder of ours, not another user's, nor a link. Raises FileNotFoundError."""
    info = os.lstat(path)
    return info.st_uid == os.getuid() and stat.S_ISDIR(info.st_mode)


def has_home_folder(home: Home) -> bool:
    """Whether there is one that we made: nothing is looked for, or removed, in another."""
    try:
        return _is_ours(home_folder(home))
    except FileNotFoundError:
        return False


def ram_folder(folder: AttemptFolder) -> str:
    """Where this attempt's own copies are."""
    return f"{home_folder(folder.home)}/{folder.name}"


def stage(folder: AttemptFolder, paths: Sequence[str], stop: StopRequest) -> str:
    """Copy the paths for this attempt alone and compare checksums; returns the folder. Raises PrepareError, OSError."""
    check(folder.work, paths)
    wanted = checksum(folder.work, paths, stop)
    with memory_may_be_full(folder.work, paths):
        target = make_folder(folder.home, folder.name)
        copy(folder.work, paths, target, wanted, stop)
    return target


def copy(work: str, paths: Sequence[str], target: str, wanted: str, stop: StopRequest) -> None:
    """Copy paths of a project into the folder `target`, and look at what arrived: memory without ECC is a reason to.

    Raises NodeAtFaultError when the copy's checksum is not `wanted`, PrepareError when a stop comes meanwhile, OSError
    (memory is full, among others).
    """
    for path in outermost(paths):
        source, there = os.path.join(work, path), os.path.join(target, path)
        os.makedirs(os.path.dirname(there), exist_ok=True)
        if os.path.isdir(source):
            copying.copy_tree(source, there, stop)
        else:
            copying.copy_file(source, there)
    if checksum(target, paths, stop) != wanted:
        raise NodeAtFaultError(f"the copy of {', '.join(paths)} in memory differs from the project's files")


@contextlib.contextmanager
def memory_may_be_full(work: str, paths: Sequence[str]) -> Iterator[None]:
    """Raises NodeAtFaultError in place of the OSError of a full memory: there is no room for the paths."""
    try:
        yield
    except OSError as problem:
        if not records.is_full(problem):
            raise
        needed = size_bytes(work, paths) >> 20
        sentence = f"{_RAM} was full while {', '.join(paths)} ({needed} MiB) was copied to memory"
        raise NodeAtFaultError(f"{sentence}; free some of it, or copy less") from problem


def check(work: str, paths: Sequence[str]) -> None:
    """Raises PrepareError unless each path is there and inside the project."""
    inside = os.path.realpath(work) + "/"
    for path in paths:
        source = os.path.join(work, path)
        if not os.path.realpath(source).startswith(inside) or not os.path.exists(source):
            raise PrepareError(f"the project has no {path} to copy into memory")


def outermost(paths: Sequence[str]) -> list[str]:
    """The paths, each once, less those that lie in another of them."""
    names = sorted({os.path.normpath(path) for path in paths})
    return [name for name in names if not any(name.startswith(other + "/") for other in names)]


def checksum(root: str, paths: Sequence[str], stop: StopRequest) -> str:
    """SHA-256 (hex) over the names, kinds and contents below the paths.

    Raises OSError where something is missing, PrepareError when a stop comes meanwhile.
    """
    whole = hashlib.sha256()
    for name, path in _entries(root, paths):
        stop.check()
        if os.path.islink(path):
            kind, content = "link", os.fsencode(os.readlink(path))
        elif os.path.isdir(path):
            kind, content = "folder", b""
        else:
            kind, content = "file", _file_checksum(path, stop)
        whole.update(kind.encode() + b" " + os.fsencode(name) + b"\0" + content + b"\0")
    return whole.hexdigest()


def size_bytes(root: str, paths: Sequence[str]) -> int:
    """How many bytes the files below the paths have. Raises OSError."""
    return sum(os.lstat(path).st_size for _, path in _entries(root, paths) if not os.path.isdir(path))


def _entries(root: str, paths: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """The name below the root, and the path, of everything, in an order that depends on nothing but the names.

    A path that was named is followed if it is a link, as it is when it is copied; links below it stay links.
    """
    for named in outermost(paths):
        waiting = [(named, os.path.realpath(os.path.join(root, named)))]
        while waiting:
            name, path = waiting.pop()
            yield name, path
            if os.path.isdir(path) and not os.path.islink(path):
                waiting += [(f"{name}/{inner}", f"{path}/{inner}") for inner in sorted(os.listdir(path), reverse=True)]


def make_read_only(root: str, paths: Sequence[str]) -> None:
    """Take the right to write off the files below the paths. Raises OSError."""
    for _, path in _entries(root, paths):
        if not os.path.islink(path) and not os.path.isdir(path):
            os.chmod(path, os.stat(path).st_mode & 0o555)


def _file_checksum(path: str, stop: StopRequest) -> bytes:
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            whole.update(block)
            stop.check()
    return whole.digest()


def remove(folder: AttemptFolder) -> None:
    """Give the memory of the attempt's own copies back; nothing there is fine."""
    if has_home_folder(folder.home):
        shutil.rmtree(ram_folder(folder), ignore_errors=True)
        remove_empty(home_folder(folder.home))


def remove_empty(path: str) -> None:
    """Remove a folder in which there is nothing; another that has something, or is gone, is fine."""
    try:
        os.rmdir(path)
    except OSError as problem:
        if problem.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
