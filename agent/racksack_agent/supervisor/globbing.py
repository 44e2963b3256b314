"""The `outputs` patterns of a job: `*.csv`, `results/**`, `models/*/best.pt`, relative to the project.

A matched folder is taken whole. Nothing outside work/ is ever read: a matched file that is a link out of it is
dropped and named.
"""

from __future__ import annotations

import glob
import os
from typing import Iterator, Sequence

from racksack_agent.supervisor import copying
from racksack_agent.supervisor.output_report import Gathered, TooLargeError


def copy_matches(work: str, out: str, patterns: Sequence[str], gathered: Gathered, max_bytes: int) -> None:
    """Copy everything that the patterns match. Raises OSError, and TooLargeError as soon as that is known."""
    seen: set[str] = set()
    copied_bytes = 0
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            gathered.drop(f"{pattern}: outputs are patterns inside the project")
            continue
        matched = False
        for relative in matches(work, pattern):
            matched = True
            if relative in seen or not collectable(work, relative, gathered):
                continue
            seen.add(relative)
            copied_bytes += os.lstat(work + "/" + relative).st_size
            if copied_bytes > max_bytes:
                raise TooLargeError(copied_bytes)
            copy_into(work + "/" + relative, out, relative)
        if not matched:
            gathered.drop(f"{pattern}: nothing matched")


def matches(work: str, pattern: str) -> Iterator[str]:
    """The files and links that a pattern matches, those in matched folders included, relative to `work`."""
    for found in glob.iglob(os.path.join(glob.escape(work), pattern), recursive=True):
        if os.path.isdir(found) and not os.path.islink(found):
            for folder, _, names in os.walk(found):
                for name in names:
                    yield os.path.relpath(os.path.join(folder, name), work)
        else:
            yield os.path.relpath(found, work)


def collectable(work: str, relative: str, gathered: Gathered) -> bool:
    """Whether a matched file may be copied; a reason against it is noted."""
    path = os.path.join(work, relative)
    root = os.path.realpath(work)
    if not os.path.realpath(os.path.dirname(path)).startswith(root):
        gathered.drop(f"{relative}: reached through a link that leads out of the project")
    elif os.path.islink(path) and not os.path.realpath(path).startswith(root + "/"):
        gathered.drop(f"{relative}: a link that leads out of the project")
    elif not os.path.islink(path) and not os.path.isfile(path):
        gathered.drop(f"{relative}: a device, socket or pipe")
    else:
        return True
    return False


def copy_into(source: str, out: str, relative: str) -> None:
    """Copy one file or link to its place below `out`, replacing what is there. Raises OSError."""
    target = out + "/" + relative
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target):
        os.unlink(target)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    else:
        copying.copy_file(source, target)
