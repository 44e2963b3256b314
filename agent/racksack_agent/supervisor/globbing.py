"""The `outputs` patterns of a job: `*.csv`, `results/**`, `models/*/best.pt`, relative to the project.

A matched folder is taken whole, with links and empty folders. Nothing outside work/ is ever read.
"""

from __future__ import annotations

import glob
import os
from typing import Dict, Iterator, Sequence

from racksack_agent.supervisor import readable
from racksack_agent.supervisor.output_report import Gathered


def matched(work: str, patterns: Sequence[str], gathered: Gathered) -> Dict[str, None]:
    """The files, links and empty folders that the patterns match, relative to `work`, in order. What cannot come and
    a pattern that matches nothing are named.
    """
    found: Dict[str, None] = {}
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            gathered.drop(f"{pattern}: outputs are patterns inside the project")
            continue
        is_matched = False
        for path in _matches(work, pattern):
            is_matched = True
            if path not in found and _collectable(work, path, gathered):
                found[path] = None
        if not is_matched:
            gathered.drop(f"{pattern}: nothing matched")
    links = {path for path in found if os.path.islink(work + "/" + path)}
    return {path: None for path in found if not any(path.startswith(link + "/") for link in links)} if links else found


def _matches(work: str, pattern: str) -> Iterator[str]:
    for match in glob.iglob(os.path.join(glob.escape(work), pattern), recursive=True):
        path = os.path.relpath(match, work)
        if os.path.islink(match) or not os.path.isdir(match):
            yield path
            continue
        readable.make_readable(match, is_folder=True)
        folders = {path}
        for entry, below in readable.walk(match):
            inner = below if path == "." else f"{path}/{below}"
            folders.discard(os.path.dirname(inner) or ".")
            if entry.is_dir(follow_symlinks=False):
                readable.make_readable(entry.path, is_folder=True)
                folders.add(inner)
            else:
                yield inner
        yield from sorted(folders - {"."})  # nothing is in these


def _collectable(work: str, path: str, gathered: Gathered) -> bool:
    """Whether a match may come; a reason against it is noted."""
    full, root = work + "/" + path, os.path.realpath(work)
    if not (os.path.realpath(os.path.dirname(full)) + "/").startswith(root + "/"):
        gathered.drop(f"{path}: reached through a link that points outside the project")
    elif os.path.islink(full) or os.path.isdir(full):
        return True
    elif not os.path.isfile(full):
        gathered.drop(f"{path}: a device, socket or pipe")
    elif not readable.make_readable(full, is_folder=False):
        owner = readable.owner_of(full)
        gathered.drop(f"{path}: it belongs to {owner}, and the account that ran the job may not read it")
    else:
        return True
    return False
