"""The plan of a runner: what the order of its attempt says about the sweep, and where everything is on this node."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, Optional

from racksack_agent import records
from racksack_agent.command_line import agent_command
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import PrepareError

Order = Dict[str, Any]


def prepare(folder: AttemptFolder, order: Order, python: Optional[str], in_ram: Optional[Dict[str, Any]]) -> list[str]:
    """Make the runner's files; its command line. `in_ram`: what `ready` tells of the copy in memory.

    Raises PrepareError, OSError.
    """
    plan = order["sweep"]
    slots = int(plan.get("slots") or 0)
    if slots < 1:
        raise PrepareError("the plan of the sweep has no slots")
    os.makedirs(folder.sweep_inbox)
    os.makedirs(folder.path + "/slots")
    os.mkfifo(folder.sweep_poke, 0o600)
    whole = {
        **plan,
        "folder": folder.path,
        "work": folder.work,
        "python": python or os.path.realpath(sys.executable),
        "cpu_ids": order["cpu_ids"],
        "gpus": order["gpus"],
        "limit": order["limit"],
        "ram_bytes": order["ram_bytes"],
        "in_ram": in_ram,
    }
    records.replace(folder.sweep_plan, records.encode(whole))
    return agent_command("sweep", folder.path)
