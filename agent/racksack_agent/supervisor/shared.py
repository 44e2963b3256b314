"""Files and folders of a project that its jobs share: links to the snapshot, which no job can change."""

from __future__ import annotations

import glob
import os
import stat
from typing import List, Sequence, Set

from racksack_agent.supervisor.data import take_write_permission


def paths_of(snapshot: str, patterns: Sequence[str], entrypoint: str) -> Set[str]:
    """What the patterns match, relative to the snapshot. A folder is one link, unless the entrypoint lies in it, which
    is the job's own: then what else is in it is linked. Links of the project are copied as any.
    """
    if not patterns:
        return set()
    pending: List[str] = []
    for pattern in patterns:
        matches = glob.iglob(os.path.join(glob.escape(snapshot), pattern.rstrip("/")), recursive=True)
        pending += [os.path.relpath(match, snapshot) for match in matches]
    found: Set[str] = set()
    while pending:
        path = pending.pop()
        full = f"{snapshot}/{path}"
        if path == "." or entrypoint.startswith(path + "/"):
            pending += [name if path == "." else f"{path}/{name}" for name in os.listdir(full)]
        elif path != entrypoint and not os.path.islink(full):
            found.add(path)
    return {path for path in found if not any(above in found for above in _above(path))}


def protect(snapshot: str, linked: Set[str]) -> None:
    """Take the permission to write from what is linked. Raises OSError."""
    for path in linked:
        full = f"{snapshot}/{path}"
        if os.path.isdir(full):
            take_write_permission(full)
        else:
            os.chmod(full, stat.S_IMODE(os.stat(full).st_mode) & 0o555)


def _above(path: str) -> List[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
