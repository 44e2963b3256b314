"""Unpacks what an agent sent inline, and packs what it is sent inline.

The archive comes from a machine where users run what they like, so nothing in it is believed: names may not lead out of
the folder, files are created new and never through a link (links are made last, munged, and judged by `links.settle`),
devices and the like are left out. tarfile's own extraction is not used: its filters differ between Python releases.
"""

# Paths are bytes here, since names need not be UTF-8.
# ruff: noqa: PTH103, PTH118, PTH119, PTH120, PTH211

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import Literal

from racksack_controller.nodes.links import MUNGED, shown

GZIP = b"\x1f\x8b"


class UnsafeArchive(Exception):  # noqa: N818
    """The archive holds a name that leads out of its folder, or one name twice."""


def unpack(data: bytes, target: Path) -> list[str]:
    """Unpack a tar archive (also gzipped) into an empty folder; notes about what was left out.

    Raises UnsafeArchive, OSError, tarfile.TarError.
    """
    base = os.fsencode(target)
    notes: list[str] = []
    links: list[tuple[bytes, bytes]] = []
    stream = io.BytesIO(data)
    mode: Literal["r:gz", "r:"] = "r:gz" if data.startswith(GZIP) else "r:"
    with tarfile.open(fileobj=stream, mode=mode, encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            path = _inside(os.fsencode(member.name))
            full = os.path.join(base, path)
            if member.isdir():
                os.makedirs(full, exist_ok=True)
            elif member.issym():
                links.append((full, os.fsencode(member.linkname)))
            elif member.isreg():
                _write(archive, member, full)
            elif member.islnk():
                _copy(os.path.join(base, _inside(os.fsencode(member.linkname))), full)
            else:
                notes.append(f"{shown(path)} is a device, socket or pipe and was left out")
    for full, link_target in links:
        _link(full, link_target)
    return notes


def _inside(name: bytes) -> bytes:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if name.startswith(b"/") or b".." in parts or b"\0" in name:
        raise UnsafeArchive(f"the name {shown(name)!r} leads out of the folder")
    return b"/".join(parts)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, full: bytes) -> None:
    source = archive.extractfile(member)
    if source is None:
        raise UnsafeArchive(f"{shown(full)} is no file")
    with _create(full, member.mode) as file:
        shutil.copyfileobj(source, file)
    if member.mtime > 0:
        os.utime(full, (member.mtime, member.mtime), follow_symlinks=False)


def _copy(source: bytes, full: bytes) -> None:
    """A hard link of the archive, to a file unpacked before."""
    try:
        opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise UnsafeArchive(f"a hard link to {shown(os.path.basename(source))!r}, which did not come before") from None
    with open(opened, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise UnsafeArchive(f"a hard link to {shown(os.path.basename(source))!r}, which is no file")
        with _create(full, info.st_mode) as copy:
            shutil.copyfileobj(file, copy)


def _create(full: bytes, mode: int) -> io.BufferedWriter:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    permissions = 0o777 if mode & stat.S_IXUSR else 0o666
    try:
        try:
            opened = os.open(full, flags, permissions)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            opened = os.open(full, flags, permissions)
    except FileExistsError:
        raise UnsafeArchive(f"the name {shown(os.path.basename(full))!r} comes twice") from None
    return open(opened, "wb")


def _link(full: bytes, link_target: bytes) -> None:
    os.makedirs(os.path.dirname(full), exist_ok=True)
    try:
        os.symlink(MUNGED + link_target, full)
    except FileExistsError:
        raise UnsafeArchive(f"the name {shown(os.path.basename(full))!r} comes twice") from None


def pack(source: Path) -> bytes:
    """A folder as a tar archive: files, links, all directories. Raises OSError."""
    stream = io.BytesIO()
    with tarfile.open(
        fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:

        def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
            archive.inodes.clear()  # type: ignore[attr-defined]  # two names of one file are two files
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = int(member.mtime)  # a fraction would take a header of its own
            return member

        archive.add(source, arcname=".", filter=anonymous)
    return stream.getvalue()
