"""Where a backup goes: a folder, which the next backup brings up to date, or a tar archive."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO, Protocol

import msgspec

from racksack_controller.intake.garbage import remove_tree
from racksack_controller.recovery import contents, trees
from racksack_controller.recovery.contents import Held
from racksack_controller.recovery.errors import RecoveryError
from racksack_controller.returns import RESULT
from racksack_jobspecs import durable
from racksack_jobspecs.bounds import UNDECODABLE


class Sink(Protocol):
    """Takes a backup piece by piece. All raise OSError."""

    def put_file(self, name: str, source: Path) -> str:
        """One file; its digest."""

    def put_tree(self, name: str, source: Path) -> Held:
        """A folder with all that is in it."""

    def drop_tree(self, name: str) -> None:
        """Forget what came of a tree that vanished while it was copied."""

    def finish(self, manifest: bytes) -> None:
        """All of it is there: the manifest makes it a backup."""


class FolderSink:
    """A folder with `racksack.db`, `snapshots/`, `returns/`, `projects/` and `manifest.json`.

    What an earlier backup brought and has not changed stays. Until the new manifest is there the old one is whole: its
    store is replaced, and what only it refers to is removed, at the very end.
    """

    def __init__(self, folder: Path) -> None:
        """Raises RecoveryError for a folder that holds something else."""
        self._folder = folder
        there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        if there and contents.MANIFEST not in there:
            raise RecoveryError(f"{folder} is not empty and not a backup; name an empty or a new folder")
        for name in contents.KINDS:
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._before = _held_before(folder)
        self._kept: set[str] = set()
        self._new_files: dict[str, Path] = {}

    def put_file(self, name: str, source: Path) -> str:
        """See Sink. It takes its name in the end."""
        beside = self._folder / f"{name}.new"
        beside.unlink(missing_ok=True)
        shutil.copyfile(source, beside, follow_symlinks=False)
        beside.chmod(0o600)
        self._new_files[name] = beside
        return file_digest(beside)

    def put_tree(self, name: str, source: Path) -> Held:
        """See Sink."""
        target = self._folder / name
        before = self._before.get(name)
        is_same = target.is_dir() and (not name.startswith("returns/") or _same_result(source, target))
        if before is not None and is_same:
            self._kept.add(name)
            return before
        target.parent.mkdir(mode=0o700, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        remove_tree(beside)
        held = trees.copy(source, beside)
        remove_tree(target)
        beside.rename(target)
        self._kept.add(name)
        return held

    def drop_tree(self, name: str) -> None:
        """See Sink."""
        target = self._folder / name
        remove_tree(target.with_name(f".{target.name}.new"))

    def finish(self, manifest: bytes) -> None:
        """See Sink."""
        beside = self._folder / f"{contents.MANIFEST}.new"
        beside.write_bytes(manifest)
        self._new_files[contents.MANIFEST] = beside
        durable.sync_file_system(self._folder)
        for name, path in self._new_files.items():
            path.rename(self._folder / name)
        durable.sync_file_system(self._folder)
        for kind in contents.KINDS:
            self._remove_others(self._folder / kind, kind)

    def _remove_others(self, folder: Path, name: str) -> None:
        """Remove what is of no name that was kept; folders that hold such names are looked into."""
        for entry in list(folder.iterdir()):
            inner = f"{name}/{entry.name}"
            if inner in self._kept or inner in self._new_files:
                continue
            if any(one.startswith(f"{inner}/") for one in self._kept):
                self._remove_others(entry, inner)
            else:
                remove_tree(entry)


def _held_before(folder: Path) -> dict[str, Held]:
    """What the backup that is there says of its trees; nothing where it cannot be read."""
    try:
        return msgspec.json.decode((folder / contents.MANIFEST).read_bytes(), type=contents.Manifest).trees
    except (OSError, *UNDECODABLE):
        return {}


def file_digest(path: Path) -> str:
    """The SHA-256 of a file. Raises OSError."""
    with trees.open_only(path) as file:
        measured = _Hashed()
        while part := file.read(1024**2):
            measured.content(part)
    return measured.hexdigest()


def _same_result(source: Path, target: Path) -> bool:
    """Whether two return folders are of one attempt as it was brought: their result.json say all that may differ."""
    try:
        return (source / RESULT).read_bytes() == (target / RESULT).read_bytes()
    except OSError:
        return False


class _Hashed(trees.Measure):
    """The digest of one file's content."""

    def hexdigest(self) -> str:
        """Of what was read."""
        return self._hash.hexdigest()


class TarSink:
    """A tar archive, compressed with gzip where its name says so."""

    def __init__(self, file: IO[bytes], *, compressed: bool) -> None:
        self._file = file
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `finish`
            fileobj=file,
            mode="w|gz" if compressed else "w|",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def put_file(self, name: str, source: Path) -> str:
        """See Sink."""
        measured = _Hashed()
        with trees.open_only(source) as file:
            self._add_file(name, os.fstat(file.fileno()), trees.Read(file, measured))
        return measured.hexdigest()

    def put_tree(self, name: str, source: Path) -> Held:
        """See Sink."""
        measure = trees.Measure()
        for item in trees.items(source):
            inner = os.fsdecode(item.name)
            whole, path = f"{name}/{inner}" if inner else name, source / inner
            if stat.S_ISREG(item.info.st_mode):
                with trees.open_only(path) as file:
                    info = os.fstat(file.fileno())
                    measure.item(item.name, info.st_mode, info.st_size)
                    self._add_file(whole, info, trees.Read(file, measure))
            elif stat.S_ISDIR(item.info.st_mode):
                measure.item(item.name, item.info.st_mode)
                self._tar.addfile(_member(whole, item.info, tarfile.DIRTYPE))
            elif stat.S_ISLNK(item.info.st_mode):
                link = _member(whole, item.info, tarfile.SYMTYPE)
                link.linkname = os.readlink(path)  # noqa: PTH115
                measure.item(item.name, item.info.st_mode, target=os.fsencode(link.linkname))
                self._tar.addfile(link)
        return measure.held()

    def drop_tree(self, name: str) -> None:
        """See Sink. What came of it stays in the archive; the manifest does not name it."""

    def finish(self, manifest: bytes) -> None:
        """See Sink."""
        member = tarfile.TarInfo(contents.MANIFEST)
        member.size, member.mode = len(manifest), 0o600
        self._tar.addfile(member, io.BytesIO(manifest))
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())

    def _add_file(self, name: str, info: os.stat_result, file: trees.Read) -> None:
        member = _member(name, info, tarfile.REGTYPE)
        member.size = info.st_size
        self._tar.addfile(member, file)


def _member(name: str, info: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, stat.S_IMODE(info.st_mode) & 0o777, int(info.st_mtime)
    return member
