"""Reads a backup, whichever form it has, into a folder beside the spool's own.

A backup holds what users' jobs wrote. Names may not lead out of the folder, files are made new, and links come last, so
that nothing is ever written through one.
"""

# ruff: noqa: PTH103, PTH118, PTH120, PTH211 - names need not be UTF-8

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import IO

import msgspec

from racksack_controller.recovery import contents, trees
from racksack_controller.recovery.contents import Manifest
from racksack_controller.recovery.errors import RecoveryError
from racksack_jobspecs.bounds import UNDECODABLE

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_folder(source: Path, target: Path) -> Manifest:
    """Copy a backup that is a folder. Raises RecoveryError, OSError."""
    if not (source / contents.MANIFEST).is_file():
        raise RecoveryError(f"{source} is not a complete backup: it has no {contents.MANIFEST}")
    for name in (contents.DATABASE, contents.MANIFEST):
        shutil.copyfile(source / name, target / name, follow_symlinks=False)
    for kind in contents.KINDS:
        if (source / kind).is_dir():
            trees.copy(source / kind, target / kind)
    return _manifest(target, str(source))


def read_archive(file: IO[bytes], target: Path, called: str) -> Manifest:
    """Unpack a backup that is an archive. Raises RecoveryError, OSError."""
    links: list[tuple[bytes, bytes]] = []
    try:
        with tarfile.open(fileobj=file, mode="r|*", encoding="utf-8", errors="surrogateescape") as archive:
            for member in archive:
                if member.size < 0:  # an archive of which some releases of Python never find the end
                    raise RecoveryError(f"{called} is damaged: a file in it has a negative size")
                _unpack(archive, member, target, links, called)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise RecoveryError(f"{called} is damaged, or not a backup: {error}") from error
    for full, link_target in links:
        os.makedirs(os.path.dirname(full), exist_ok=True)
        os.symlink(link_target, full)
    if not (target / contents.MANIFEST).is_file():
        raise RecoveryError(f"{called} is not a complete backup: it has no {contents.MANIFEST}")
    return _manifest(target, called)


def _unpack(
    archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, links: list[tuple[bytes, bytes]], called: str
) -> None:
    name = os.fsencode(member.name)
    if name.startswith(b"/") or b".." in name.split(b"/") or b"\0" in name:
        raise RecoveryError(f"{called} has a name that leads out of its folder: {member.name!r}")
    full = os.path.join(os.fsencode(target), name)
    if member.isdir():
        os.makedirs(full, exist_ok=True)
    elif member.issym():
        links.append((full, os.fsencode(member.linkname)))
    elif member.isreg():
        content = archive.extractfile(member)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(os.open(full, _NEW, 0o600), "wb") as file:
            shutil.copyfileobj(content, file, 1024**2)  # type: ignore[arg-type]  # a regular file has content
            os.fchmod(file.fileno(), member.mode & 0o777 | 0o400)
            os.utime(file.fileno(), (member.mtime, member.mtime))


def _manifest(target: Path, called: str) -> Manifest:
    try:
        found = msgspec.json.decode((target / contents.MANIFEST).read_bytes(), type=Manifest)
    except UNDECODABLE as error:
        raise RecoveryError(f"{called} is damaged: its {contents.MANIFEST} cannot be read ({error})") from error
    if found.format != contents.FORMAT:
        raise RecoveryError(
            f"{called} was made by another version of racksack ({found.version}); restore it with that version"
        )
    return found
