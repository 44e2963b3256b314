"""What this node has: cores that we may use, memory, disk, GPUs."""

from __future__ import annotations

import os
from typing import Any, Dict

from racksack_agent.problems import RefusedError
from racksack_agent.serve import inspect
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.cores import allowed_cores
from racksack_agent.serve.slurm.commands import SlurmError


def probe(agent: Agent, request: Dict[str, Any]) -> Dict[str, Any]:
    """The Inventory; see GpuWatch about the devices. `disk_bytes` is what is free now."""
    del request
    space = os.statvfs(agent.home.root)
    if agent.slurm is not None:
        try:
            return agent.slurm.inventory(space.f_bavail * space.f_frsize)
        except SlurmError as problem:
            raise RefusedError("slurm", f"Slurm's resources could not be read: {problem}") from problem
    seen = agent.gpus.state(fresh=True)
    return {
        "cpus": len(allowed_cores()),
        "ram_bytes": inspect.meminfo()["MemTotal"],
        "disk_bytes": space.f_bavail * space.f_frsize,
        "gpus": seen["gpus"],
        "set_aside": seen["set_aside"],
        "problems": seen["problems"],
    }
