"""The files of work/ that a job made or changed: the plot beside the script, the model in the current folder.

A file counts when its inode was changed since the program began and its content is not that of the snapshot. Folders
that tools fill for themselves are passed over.
"""

from __future__ import annotations

import os
import re
from typing import Iterator, List, Tuple

from racksack_agent.supervisor import readable
from racksack_agent.supervisor.output_report import Gathered

_ENTRIES_MAX = 200_000
_STEP_BYTES = 1 << 20
_PASSED_OVER = re.compile(
    r"__pycache__|\.git|\.hg|\.svn|\.venv|node_modules|\.cache|\.(pytest|mypy|ruff)_cache|\.tox|\.nox|\.eggs"
    r"|.*\.egg-info|\.ipynb_checkpoints|\.numba_cache|\.triton|\.nv"
)
_PASSED_OVER_FILES = re.compile(r".*\.py[co]|core(\.[0-9]+)?|\.nfs[0-9a-f]+|\.DS_Store|\.coverage|.*\.sw[op]")


def changed(work: str, snapshot: str, since_ns: int, gathered: Gathered) -> List[Tuple[int, str]]:
    """Size and path of each. Links count with their own size. Of a very large tree only a part is looked at."""
    found = []
    for count, (entry, path) in enumerate(_entries(work)):
        if count >= _ENTRIES_MAX:
            gathered.drop(f"only the first {_ENTRIES_MAX} entries of the working folder were searched for new files")
            break
        info = entry.stat(follow_symlinks=False)
        if info.st_ctime_ns < since_ns or _PASSED_OVER_FILES.fullmatch(entry.name):
            continue
        if entry.is_symlink():
            if not _same_link(entry.path, snapshot + "/" + path):
                found.append((info.st_size, path))
        elif entry.is_file(follow_symlinks=False) and not same_content(entry.path, snapshot + "/" + path):
            if readable.make_readable(entry.path, is_folder=False):
                found.append((info.st_size, path))
            else:
                owner = readable.owner_of(entry.path)
                gathered.drop(f"{path}: it belongs to {owner}, and the account that ran the job may not read it")
    return found


def _entries(work: str) -> Iterator[Tuple[os.DirEntry[str], str]]:
    """Files and links below work/, without the folders of tools and without venvs."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        folder = work + "/" + prefix
        if prefix and os.path.exists(folder + "pyvenv.cfg"):
            continue
        readable.make_readable(folder, is_folder=True)
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry, prefix + entry.name
            elif not _PASSED_OVER.fullmatch(entry.name):
                pending.append(prefix + entry.name + "/")


def _same_link(path: str, original: str) -> bool:
    return os.path.islink(original) and os.readlink(path) == os.readlink(original)


def same_content(path: str, original: str) -> bool:
    """Whether two files are alike; a missing or unreadable one is like no other."""
    try:
        if os.path.islink(original) or os.path.getsize(path) != os.path.getsize(original):
            return False
        with open(path, "rb") as one, open(original, "rb") as other:
            while True:
                data = one.read(_STEP_BYTES)
                if data != other.read(_STEP_BYTES):
                    return False
                if not data:
                    return True
    except OSError:
        return False
