"""Where a backup goes: a folder, which the next backup brings up to date, or a tar archive."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import IO, Protocol

from racksack_controller.intake.garbage import remove_tree
from racksack_controller.recovery import contents, trees
from racksack_controller.recovery.errors import RecoveryError
from racksack_controller.recovery.trees import Size
from racksack_controller.returns import RESULT
from racksack_jobspecs import durable


class Sink(Protocol):
    """Takes a backup piece by piece. All raise OSError."""

    def put_file(self, name: str, source: Path) -> None:
        """One file."""

    def put_tree(self, name: str, source: Path) -> Size:
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
            raise RecoveryError(f"{folder} is not empty and no backup; name an empty or a new folder")
        for name in ("snapshots", "returns", "projects"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._kept: set[str] = set()
        self._new_files: dict[str, Path] = {}

    def put_file(self, name: str, source: Path) -> None:
        """See Sink. It takes its name in the end."""
        beside = self._folder / f"{name}.new"
        beside.unlink(missing_ok=True)
        shutil.copyfile(source, beside, follow_symlinks=False)
        beside.chmod(0o600)
        self._new_files[name] = beside

    def put_tree(self, name: str, source: Path) -> Size:
        """See Sink."""
        target = self._folder / name
        if target.is_dir() and (name.startswith("snapshots/") or _same_result(source, target)):
            self._kept.add(name)
            return trees.size_of(target)
        beside = target.with_name(f".{target.name}.new")
        remove_tree(beside)
        size = trees.copy(source, beside)
        remove_tree(target)
        beside.rename(target)
        self._kept.add(name)
        return size

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
        for kind in ("snapshots", "returns", "projects"):
            for entry in list((self._folder / kind).iterdir()):
                name = f"{kind}/{entry.name}"
                if name not in self._kept and name not in self._new_files:
                    remove_tree(entry)


def _same_result(source: Path, target: Path) -> bool:
    """Whether two return folders are of one attempt as it was brought: their result.json say all that may differ."""
    try:
        return (source / RESULT).read_bytes() == (target / RESULT).read_bytes()
    except OSError:
        return False


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

    def put_file(self, name: str, source: Path) -> None:
        """See Sink."""
        with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            self._add_file(name, os.fstat(file.fileno()), file)

    def put_tree(self, name: str, source: Path) -> Size:
        """See Sink."""
        files = size_bytes = 0
        for item in trees.items(source):
            inner = os.fsdecode(item.name)
            whole, path = f"{name}/{inner}" if inner else name, source / inner
            if stat.S_ISREG(item.info.st_mode):
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                    info = os.fstat(file.fileno())
                    self._add_file(whole, info, file)
                files, size_bytes = files + 1, size_bytes + info.st_size
            elif stat.S_ISDIR(item.info.st_mode):
                self._tar.addfile(_member(whole, item.info, tarfile.DIRTYPE))
            elif stat.S_ISLNK(item.info.st_mode):
                link = _member(whole, item.info, tarfile.SYMTYPE)
                link.linkname = os.readlink(path)  # noqa: PTH115
                self._tar.addfile(link)
        return Size(files, size_bytes)

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

    def _add_file(self, name: str, info: os.stat_result, file: IO[bytes]) -> None:
        member = _member(name, info, tarfile.REGTYPE)
        member.size = info.st_size
        self._tar.addfile(member, file)


def _member(name: str, info: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, stat.S_IMODE(info.st_mode) & 0o777, int(info.st_mtime)
    return member
