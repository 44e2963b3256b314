"""Puts the checkpoint of an earlier attempt in its place, before the program starts."""

from __future__ import annotations

import os
from typing import Any, Dict

from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import copying, globbing, readable
from racksack_agent.supervisor.checkpoints import chosen, helper
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.output_report import Gathered

Order = Dict[str, Any]


def provide(folder: AttemptFolder, order: Order, stop: StopRequest) -> None:
    """Make the place for checkpoints, with the earlier one in it if there is one. Raises OSError, and PrepareError when
    a stop comes meanwhile.
    """
    wanted = order.get("checkpoint")
    if wanted is None:
        return
    helper.provide(folder, saves=wanted["saves"])
    if wanted["digest"]:
        for path in globbing.matched(folder.work, wanted["paths"], Gathered()):  # the project's own would be mixed in
            full = f"{folder.work}/{path}"
            if not os.path.isdir(full) or os.path.islink(full):
                os.unlink(full)
        _copy(f"{folder.home.snapshots}/{wanted['digest']}", folder.work, stop)
    place = chosen.folder_of(folder.work, wanted["paths"])
    if place is not None:
        os.makedirs(place, exist_ok=True)


def variables(folder: AttemptFolder, order: Order, given: Dict[str, str]) -> Dict[str, str]:
    """What tells a program about checkpoints; `given` is what it has otherwise."""
    wanted = order.get("checkpoint")
    if wanted is None:
        return {}
    found = helper.variables(folder, given)
    place = chosen.folder_of(folder.work, wanted["paths"])
    if place is not None:
        found["RACKSACK_CHECKPOINT_DIR"] = place
    if wanted["digest"]:
        found["RACKSACK_RESUMED"] = "1"
    return found


def _copy(source: str, work: str, stop: StopRequest) -> None:
    """Copy files and links, writable, into folders that may be there already."""
    for entry, path in readable.walk(source):
        stop.check()
        target = f"{work}/{path}"
        if entry.is_dir(follow_symlinks=False):
            os.makedirs(target, exist_ok=True)
        elif entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
        else:
            copying.copy_file(entry.path, target)
