"""Removes from the spool what nobody will ask for again: old content, uploads without a job, refused files."""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Set
from pathlib import Path

from racksack_controller.config.config import Keep
from racksack_jobspecs.layout import Spool

log = logging.getLogger("racksack.housekeeping")

removing = threading.Lock()
"""Held while content is found unused and taken away, and while it is found and marked as used: never both at once."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
GONE = ".gone-"
_COPY_AGE_S = 86400.0


def collect_garbage(spool: Spool, used: Set[str], keep: Keep, now_s: float) -> list[str]:
    """Remove what is older than `keep` allows; gives the digests whose content is gone. What cannot go is logged.

    `used` are the digests that must stay whatever their age.
    """
    gone = [
        digest for digest in _digests(spool) if digest not in used and _retire(spool, digest, now_s - keep.snapshots_s)
    ]
    _remove_old(spool.snapshots, lambda name: name.startswith(GONE), now_s)
    _remove_old(spool.snapshots, lambda name: name.startswith(".copy-"), now_s - _COPY_AGE_S)
    _remove_old(spool.incoming, lambda name: name.startswith(GONE), now_s)
    _remove_old(spool.incoming, lambda _name: True, now_s - keep.uploads_s)
    _remove_old(spool.jobs, lambda name: name.startswith(".") or name.endswith(".tmp"), now_s - keep.uploads_s)
    _remove_old(spool.rejected, lambda _name: True, now_s - keep.rejected_s)
    _remove_dangling(spool.projects)
    return gone


def _digests(spool: Spool) -> list[str]:
    return [entry.name for entry in os.scandir(spool.snapshots) if _DIGEST.fullmatch(entry.name)]


def _retire(spool: Spool, digest: str, before_s: float) -> bool:
    """Rename old content away, so that nothing half removed is ever found under its digest; whether it was old."""
    path = spool.snapshots / digest
    with removing:
        if path.stat().st_mtime > before_s:
            return False
        path.rename(path.with_name(GONE + digest))
    return True


def _remove_old(folder: Path, matches: Callable[[str], bool], before_s: float) -> None:
    for entry in list(os.scandir(folder)):
        if not matches(entry.name):
            continue
        try:
            if _changed_at_s(Path(entry.path)) <= before_s:
                remove_tree(Path(entry.path))
        except OSError as error:
            log.warning("%s is old but cannot be removed: %s", entry.path, error.strerror)


def _changed_at_s(path: Path) -> float:
    """When anything below `path` last changed. Copies keep the time of their content, so this is the inode's."""
    newest = path.lstat().st_ctime
    if path.is_dir() and not path.is_symlink():
        for folder, _, files in os.walk(path):
            for name in (".", *files):
                newest = max(newest, os.lstat(os.path.join(folder, name)).st_ctime)  # noqa: PTH118
    return newest


def _remove_dangling(projects: Path) -> None:
    """The links of jobs whose content is gone."""
    for entry in _links(projects):
        if not entry.exists():
            entry.unlink(missing_ok=True)


def _links(folder: Path) -> Iterable[Path]:
    return [path for path in folder.iterdir() if path.is_symlink()]


def remove_tree(path: Path) -> None:
    """Remove a file or a folder, read-only or not; nothing there is fine. Raises OSError for the first that stays."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        path.unlink(missing_ok=True)
        return
    _open_folder(path.parent, path.name)
    for _, folders, _, descriptor in os.fwalk(path):
        for name in folders:
            _open_folder(descriptor, name)
    shutil.rmtree(path)


def _open_folder(parent: int | Path, name: str) -> None:
    """Let the controller into a folder of its own and change it.

    The folder may be in an upload, whose owner may put a link in its place at any moment: it is opened first, without
    following links, and what was opened is changed.
    """
    where = os.open(parent, os.O_PATH) if isinstance(parent, Path) else parent
    try:
        folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=where)
    except OSError:
        return  # it is no folder any more; whatever it is now is removed as that
    finally:
        if isinstance(parent, Path):
            os.close(where)
    try:
        info = os.fstat(folder)
        if info.st_uid == os.geteuid() and info.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{folder}", 0o700)  # noqa: PTH101 - a descriptor of O_PATH takes no fchmod
    finally:
        os.close(folder)
