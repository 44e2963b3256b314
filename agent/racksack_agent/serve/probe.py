"""What this node has: cores that we may use, memory, disk, GPUs."""

from __future__ import annotations

import os
from typing import Any, Dict

from racksack_agent.serve import gpus, inspect
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.cores import allowed_cores


def probe(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """The Inventory; `problems` are sentences about GPUs that could not be asked. `disk_bytes` is what is free now."""
    del request
    space = os.statvfs(agent.home.root)
    found, problems = gpus.find()
    return {
        "cpus": len(allowed_cores()),
        "ram_bytes": inspect.meminfo()["MemTotal"],
        "disk_bytes": space.f_bavail * space.f_frsize,
        "gpus": found,
        "problems": problems,
    }
