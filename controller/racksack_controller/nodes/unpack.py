"""Unpacks what an agent sent inline, and packs what it is sent inline.

The archive comes from a machine where users run what they like, so nothing in it is believed: names may not lead out of
the folder, files are created new and never through a link (links are made last, munged, and judged by `links.settle`),
devices and the like are left out, and it ends as soon as more came than the node reported. tarfile only packs what is
ours; see `tar_reader` for why it does not read.
"""

# Paths are bytes here, since names need not be UTF-8.
# ruff: noqa: PTH103, PTH118, PTH119, PTH120, PTH211

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import msgspec

from racksack_controller.nodes.links import MUNGED, shown
from racksack_controller.nodes.tar_reader import Member, members

OTHERS_MAX = 100_000


class UnsafeArchive(Exception):  # noqa: N818
    """The archive holds a name that leads out of its folder, or one name twice."""


class TooMuch(Exception):  # noqa: N818
    """The archive holds more than was announced."""


class Room(msgspec.Struct):
    """What may still arrive: as many files and bytes as the node reported, and what the links and notes may come to."""

    files: int
    bytes: int
    others: int = OTHERS_MAX  # links, folders and what is left out

    def take(self, files: int, size: int) -> None:
        """Raises TooMuch."""
        self.files, self.bytes = self.files - files, self.bytes - size
        self.others -= not files
        if self.files < 0 or self.bytes < 0 or self.others < 0:
            raise TooMuch("more arrived than was reported")


def unpack(data: bytes, target: Path, room: Room) -> list[str]:
    """Unpack a tar archive into an empty folder; notes about what was left out.

    Raises UnsafeArchive, TooMuch, DamagedArchive, OSError. What was written before stays.
    """
    base = os.fsencode(target)
    notes: list[str] = []
    links: list[tuple[bytes, bytes]] = []
    view = memoryview(data)
    for member in members(data):
        path = _inside(member.name)
        full = os.path.join(base, path)
        room.take(int(member.kind == "file"), member.size)
        if member.kind == "folder":
            os.makedirs(full, exist_ok=True)
        elif member.kind == "link":
            links.append((full, member.target))
        elif member.kind == "file":
            _write(view[member.start : member.start + member.size], member, full)
        elif member.kind == "hard link":
            raise UnsafeArchive(f"{shown(path)} is a hard link, which the agent never sends")
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


def _write(content: memoryview, member: Member, full: bytes) -> None:
    with _create(full, member.mode) as file:
        file.write(content)
    if member.mtime > 0:
        os.utime(full, (member.mtime, member.mtime), follow_symlinks=False)


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
        raise UnsafeArchive(f"the name {shown(os.path.basename(full))!r} appears twice") from None
    return open(opened, "wb")


def _link(full: bytes, link_target: bytes) -> None:
    os.makedirs(os.path.dirname(full), exist_ok=True)
    try:
        os.symlink(MUNGED + link_target, full)
    except FileExistsError:
        raise UnsafeArchive(f"the name {shown(os.path.basename(full))!r} appears twice") from None


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
