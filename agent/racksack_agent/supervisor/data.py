"""Data sets of an attempt: links to content of this node that all attempts share, and that none can change.

Files and folders of the content are read-only. Root ignores that, so where the agent is root the content is also
mounted read-only over itself, in a mount namespace that this supervisor and its job alone are in.
"""

from __future__ import annotations

import ctypes
import os
import stat
from typing import Any, Dict, Optional, Sequence

from racksack_agent.home import AttemptFolder
from racksack_agent.problems import NodeAtFaultError, PrepareError

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 32, 4096, 16384, 1 << 19
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def provide(folder: AttemptFolder, wanted: Sequence[Dict[str, Any]], shared: Sequence[str] = ()) -> None:
    """Make $RACKSACK_DATA_DIR, with a link for each data set, and the links in the project. `shared` is other content
    that jobs link to. Raises PrepareError.
    """
    if not wanted and not shared:
        return
    os.makedirs(folder.data, exist_ok=True)
    contents = list(shared)
    for one in wanted:
        target = one["source"] or f"{folder.home.snapshots}/{one['digest']}"
        if not os.path.isdir(target):
            raise NodeAtFaultError(f"data set {one['name']} is not at {target} on this node")
        if one["digest"]:
            protect(target)
            contents.append(target)
        link = f"{folder.data}/{one['name']}"
        if not os.path.lexists(link):
            os.symlink(target, link)
        if one["path"]:
            _place(folder.work, one["path"], link, one["name"])
    if os.geteuid() == 0:
        mount_read_only(contents)


def _place(work: str, path: str, link: str, name: str) -> None:
    """Let the data appear in the project. Raises PrepareError where there is something already."""
    place = os.path.join(work, path.rstrip("/"))
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if not os.path.realpath(os.path.dirname(place)).startswith(os.path.realpath(work)):
        raise PrepareError(f"data set {name} cannot be at {path}, which a link points outside the project")
    if os.path.isdir(place) and not os.path.islink(place) and not os.listdir(place):
        os.rmdir(place)
    try:
        os.symlink(link, place)
    except FileExistsError:
        if not os.path.islink(place) or os.readlink(place) != link:
            raise PrepareError(f"data set {name} cannot be at {path}: the project has something there") from None


def protect(content: str) -> None:
    """Take the permission to write from everything; done once, which the content's own folder tells."""
    if os.stat(content).st_mode & _WRITABLE:
        take_write_permission(content)


def take_write_permission(content: str) -> None:
    """From a folder and all below it; from itself last: it says that all of it is done."""
    for where, folders, files in os.walk(content):
        for name in (*files, *folders):
            path = os.path.join(where, name)
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode) and mode & _WRITABLE:
                os.chmod(path, stat.S_IMODE(mode) & ~_WRITABLE)
    os.chmod(content, 0o555)  # noqa: S103 - last


def mount_read_only(contents: Sequence[str]) -> None:
    """Mount each over itself, read-only, for this process and its children. Raises NodeAtFaultError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not contents:
        return
    _checked(libc.unshare(_CLONE_NEWNS), "a mount namespace")
    _mount(libc, None, "/", _MS_REC | _MS_SLAVE)
    for content in contents:
        _mount(libc, content, content, _MS_BIND)
        _mount(libc, None, content, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)


def _mount(libc: Any, source: Optional[str], target: str, flags: int) -> None:  # noqa: ANN401 - ctypes
    name = None if source is None else os.fsencode(source)
    _checked(libc.mount(name, os.fsencode(target), None, ctypes.c_ulong(flags), None), f"mounting {target} read-only")


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise NodeAtFaultError(f"{what} failed: {os.strerror(ctypes.get_errno())}")
