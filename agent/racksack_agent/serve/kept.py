"""Outputs that did not come back stay on the node for a while, so that they can still be asked for.

`kept/<attempt>/` holds them after the attempt was removed, `kept/<attempt>.json` says until when. They never take more
than their share of the disk: the oldest go first.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Tuple

from racksack_agent import records
from racksack_agent.home import AttemptFolder, Home
from racksack_agent.problems import RefusedError
from racksack_agent.serve import request_checks, unfinished
from racksack_agent.serve.agent import Agent
from racksack_agent.supervisor import globbing, readable
from racksack_agent.supervisor.output_report import Gathered

_FREE_SHARE_MIN = 0.05  # of the disk: with less nothing is kept
_BRING = ".bring"


def keep(folder: AttemptFolder, launch: Dict[str, Any]) -> None:
    """Before an attempt is removed: move what it left here to where it is kept. Raises OSError."""
    keep_s = launch.get("keep_left_s", 0.0)  # an earlier version of us may have launched it
    if keep_s <= 0 or not os.path.isdir(folder.left):
        return
    kept = f"{folder.home.kept}/{folder.name}"
    size_bytes = sum(_size(entry) for entry, _ in readable.walk(folder.left))
    record = {"until_s": time.time() + keep_s, "bytes": size_bytes, "most": launch["keep_left_bytes"]}
    records.replace(kept + ".json", records.encode(record))
    if os.path.lexists(kept):
        unfinished.remove_tree(kept)
    os.rename(folder.left, kept)


def prune(home: Home) -> None:
    """Remove what was kept long enough, and of more than its share the oldest. Raises OSError."""
    found: List[Tuple[float, int, int, str]] = []
    for name in os.listdir(home.kept):
        if name.endswith(".json"):
            record = records.read(f"{home.kept}/{name}")
            path = f"{home.kept}/{name[: -len('.json')]}"
            if record is None or record["until_s"] < time.time():
                _remove(path)
            else:
                found.append((record["until_s"], record["bytes"], record["most"], path))
    total = sum(size for _, size, _, _ in found)
    most = min((limit for _, _, limit, _ in found), default=0)
    for _, size, _, path in sorted(found):
        if total <= most and not _is_short_of_space(home.root):
            break
        _remove(path)
        total -= size


def bring(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """Put files that were kept, and match the patterns, together to be pulled: `{path, files, bytes, missing}`.

    They are linked, not copied, and stay where they are. Raises RefusedError when nothing of the attempt is here.
    """
    folder = agent.home.attempt(request_checks.attempt_name(request.get("attempt")))
    kept = f"{agent.home.kept}/{folder.name}"
    source = folder.left if os.path.isdir(folder.left) else kept
    if not os.path.isdir(source):
        raise RefusedError("gone", f"nothing that {folder.name} left is on this node any more")
    gathered = Gathered()
    target = kept + _BRING
    if os.path.lexists(target):
        unfinished.remove_tree(target)
    os.mkdir(target)
    files = size_bytes = 0
    for path in globbing.matched(source, request_checks.names(request, "patterns"), gathered):
        full = f"{source}/{path}"
        if os.path.isfile(full) and not os.path.islink(full):
            os.makedirs(os.path.dirname(f"{target}/{path}"), exist_ok=True)
            os.link(full, f"{target}/{path}")
            files, size_bytes = files + 1, size_bytes + os.path.getsize(full)
    return {"path": target, "files": files, "bytes": size_bytes, "missing": gathered.dropped}


def brought(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """What `bring` put together has arrived."""
    name = request_checks.attempt_name(request.get("attempt"))
    target = f"{agent.home.kept}/{name}{_BRING}"
    if os.path.lexists(target):
        unfinished.remove_tree(target)
    return {}


def _size(entry: os.DirEntry[str]) -> int:
    return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0


def _remove(path: str) -> None:
    for one in (path, path + _BRING):
        if os.path.lexists(one):
            unfinished.remove_tree(one)
    records.remove_file(path + ".json")


def _is_short_of_space(path: str) -> bool:
    disk = os.statvfs(path)
    return disk.f_bavail < disk.f_blocks * _FREE_SHARE_MIN
