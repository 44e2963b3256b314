"""Symbolic links in a folder that came from a node: those that stay inside are kept, all others go, with a note.

While files still arrive, links are *munged* (a prefix makes them lead nowhere), as rsync's --munge-links does, so that
nothing can be written through one. A link is kept when its target goes up only at the start, and no higher than the
folder: such a target passes real folders on its way up, and below them only links that obey the same rule, so by
induction no chain of kept links leads out.
"""

# Paths are bytes here, since names need not be UTF-8.
# ruff: noqa: PTH101, PTH108, PTH115, PTH118, PTH211

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

MUNGED = b"/rsyncd-munged/"


class Content(msgspec.Struct, frozen=True):
    """What a folder holds: regular files and their bytes, and notes about what was taken out."""

    files: int
    bytes: int
    notes: tuple[str, ...]


def stays_inside(path: bytes, target: bytes) -> bool:
    """Whether a link at `path` (relative to the folder) with this target cannot lead out of the folder."""
    if target.startswith(b"/") or not target:
        return False
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    ups = 0
    while ups < len(parts) and parts[ups] == b"..":
        ups += 1
    return b".." not in parts[ups:] and ups <= path.count(b"/")


def settle(root: Path) -> Content:
    """Unmunge the links below `root` that stay inside, remove the others and what is no file; count the files.

    Also opens everything to its owner, since a folder or file that nobody may read cannot be handed on.
    """
    files, size, notes = 0, 0, []
    base = os.fsencode(root)
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(base, folder)) as entries:
            found = list(entries)
        for entry in found:
            path = os.path.join(folder, entry.name)
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                _open_to_owner(entry.path, info.st_mode, 0o700)
                pending.append(path)
            elif stat.S_ISREG(info.st_mode):
                _open_to_owner(entry.path, info.st_mode, 0o600)
                files, size = files + 1, size + info.st_size
            elif stat.S_ISLNK(info.st_mode):
                notes += _settle_link(entry.path, path)
            else:
                os.unlink(entry.path)
                notes.append(f"{shown(path)} is a device, socket or pipe and was left out")
    return Content(files, size, tuple(notes))


def _open_to_owner(path: bytes, mode: int, wanted: int) -> None:
    """Add the owner's rights; a file loses set-user-id and the like. `path` was seen by lstat and is no link."""
    right = stat.S_IMODE(mode) | wanted
    if stat.S_ISREG(mode):
        right &= 0o777
    if right != stat.S_IMODE(mode):
        os.chmod(path, right)


def _settle_link(full: bytes, path: bytes) -> list[str]:
    stored = os.readlink(full)
    target = stored.removeprefix(MUNGED)
    inside = stays_inside(path, target)
    if inside and target == stored:
        return []
    os.unlink(full)
    if inside:
        os.symlink(target, full)
        return []
    return [f"{shown(path)} is a link that leads out of the folder ({shown(target)}) and was left out"]


def shown(path: bytes) -> str:
    """A path for people: escapes instead of what is not UTF-8 or not printable."""
    text = path.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]
