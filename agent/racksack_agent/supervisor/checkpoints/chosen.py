"""Which files are the checkpoint: what the job's patterns match, or of that what the program itself calls complete.

Two marks of a program are honoured in a folder: `CURRENT`, a file or link that names the file or folder beside it which
is complete; and `SHA256SUMS`, which lists files as sha256sum(1) does: those are complete that have these sums. All else
in that folder is left out.
"""

from __future__ import annotations

import hashlib
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from racksack_agent.supervisor import globbing
from racksack_agent.supervisor.output_report import Gathered

CURRENT = "CURRENT"
SUMS = "SHA256SUMS"
_MARK_BYTES_MAX = 4096
_SUMS_BYTES_MAX = 16 << 20
_BLOCK_BYTES = 1 << 20


class Incomplete(Exception):  # noqa: N818 - it is no error: the next look may find it complete
    """Nothing can be taken now; the message says why."""


class Chosen(NamedTuple):
    """Files and links of the working folder, relative to it and sorted."""

    paths: Tuple[str, ...]
    is_marked: bool  # the program's own marks say that these are complete
    sums: Dict[str, str]  # what SHA-256 a file must have, by path


def choose(work: str, patterns: Sequence[str]) -> Chosen:
    """What there is to take now; nothing matched is no path. Raises Incomplete for a mark that names what is not there,
    OSError.
    """
    gathered = Gathered()
    found = [path for path in globbing.matched(work, patterns, gathered) if not _is_folder(f"{work}/{path}")]
    marked: Set[str] = set()
    sums: Dict[str, str] = {}
    for folder in sorted({os.path.dirname(path) for path in found if os.path.basename(path) in (CURRENT, SUMS)}):
        if _join(folder, CURRENT) in found:
            kept = _named_by_current(work, folder, found)
        elif _join(folder, SUMS) in found:
            listed = _listed(work, folder)
            sums.update(listed)
            kept = {*listed, _join(folder, SUMS)}
        else:
            continue  # what another mark names does not lie here
        found = [path for path in found if path in kept or not _is_below(path, folder)]
        marked |= kept
    return Chosen(tuple(sorted(found)), bool(found) and marked.issuperset(found), sums)


def _named_by_current(work: str, folder: str, found: Sequence[str]) -> Set[str]:
    """The mark and all that it names."""
    mark = _join(folder, CURRENT)
    name = _content(f"{work}/{mark}").strip().rstrip("/")
    target = _join(folder, name)
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise Incomplete(f"{mark} does not name a file or folder beside it")
    kept = {path for path in found if path == target or path.startswith(target + "/")}
    if not kept:
        raise Incomplete(f"{mark} names {name}, which does not exist")
    return kept | {mark}


def _content(path: str) -> str:
    if os.path.islink(path):
        return os.readlink(path)
    with open(path, "rb") as file:
        return file.read(_MARK_BYTES_MAX).decode("utf-8", "surrogateescape")


def _listed(work: str, folder: str) -> Dict[str, str]:
    """Path and sum of each line of `SHA256SUMS`. Raises Incomplete for a line that is none."""
    mark = _join(folder, SUMS)
    with open(f"{work}/{mark}", "rb") as file:
        text = file.read(_SUMS_BYTES_MAX).decode("utf-8", "surrogateescape")
    sums: Dict[str, str] = {}
    for line in text.splitlines():
        digest, _, name = line.partition(" ")
        name = name[1:] if name[:1] in (" ", "*") else name
        if len(digest) != 64 or not name or name.startswith("/") or ".." in name.split("/"):
            raise Incomplete(f"{mark} has a line that is not in sha256sum's format")
        path = _join(folder, os.path.normpath(name))
        if not os.path.isfile(f"{work}/{path}"):
            raise Incomplete(f"{mark} lists {name}, which does not exist")
        sums[path] = digest.lower()
    if not sums:
        raise Incomplete(f"{mark} lists no file")
    return sums


def check_sums(root: str, sums: Dict[str, str]) -> None:
    """Whether copies below `root` have the sums that the program wrote down. Raises Incomplete, OSError."""
    for path, wanted in sums.items():
        whole = hashlib.sha256()
        with open(f"{root}/{path}", "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                whole.update(block)
        if whole.hexdigest() != wanted:
            raise Incomplete(f"{path} does not match its checksum in {SUMS}")


def folder_of(work: str, patterns: Sequence[str]) -> Optional[str]:
    """$RACKSACK_CHECKPOINT_DIR: the folder that the first pattern names, or in which it matches. None without any."""
    if not patterns:
        return None
    parts: List[str] = []
    for part in patterns[0].rstrip("/").split("/"):
        if any(sign in part for sign in "*?["):
            break
        parts.append(part)
    is_whole = len(parts) == len(patterns[0].rstrip("/").split("/"))
    path = "/".join([work, *parts])
    is_folder = patterns[0].endswith("/") or os.path.isdir(path) or (parts and "." not in parts[-1])
    if is_whole and not is_folder:
        path = "/".join([work, *parts[:-1]])
    return os.path.normpath(path)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder + "/")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
