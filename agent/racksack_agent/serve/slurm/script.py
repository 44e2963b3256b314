"""What is handed to sbatch for an attempt: its options, and a script that becomes the supervisor."""

from __future__ import annotations

import math
import secrets
import shlex
from typing import Any, Dict, List

from racksack_agent.command_line import agent_command
from racksack_agent.home import AttemptFolder

Order = Dict[str, Any]

_MIB = 1 << 20
_OWN_BYTES = 64 * _MIB  # supervisor and reaper
_MARGIN_S = 120.0  # for gathering outputs, beside the grace
_PREPARE_S = 600.0  # for the copy and the venv, which the job's own time limit does not count
_MINUTE_S = 60
NO_PROGRAM = 127


def new_name(key: str, attempt: str) -> str:
    """A name for the batch job that no other one has: what it is looked for by. `key`: of the agent's home."""
    return f"{prefix(key)}{attempt}-{secrets.token_hex(4)}"


def prefix(key: str) -> str:
    """How the names of all batch jobs of one home begin."""
    return f"racksack-{key}-"


def limit_s(order: Order) -> float:
    """How long the program may run: as asked, at most as the partition's time limit leaves."""
    wall_s = float(order["slurm"]["walltime_s"])
    longest_s = max(float(_MINUTE_S), wall_s - _MARGIN_S - float(order["grace_s"]))
    asked_s = order["time_limit_s"]
    return longest_s if asked_s is None else min(float(asked_s), longest_s)


def options(folder: AttemptFolder, order: Order) -> List[str]:
    """The options of sbatch. `--no-requeue`: another start of an attempt is another attempt, and the controller's to
    decide.
    """
    slurm = order["slurm"]
    wall_s = min(float(slurm["walltime_s"]), order["time_limit_s"] + order["grace_s"] + _PREPARE_S + _MARGIN_S)
    ram = max(1, math.ceil((order["ram_bytes"] + _OWN_BYTES) / _MIB))
    words = [
        f"--job-name={slurm['job_name']}", f"--comment=racksack {order['node']} {order['attempt']} {order['epoch']}",
        "--nodes=1", "--ntasks=1", f"--cpus-per-task={max(1, math.ceil(order['cpus']))}", f"--mem={ram}M",
        f"--time={max(1, math.ceil(wall_s / _MINUTE_S))}", "--no-requeue", "--export=ALL", "--open-mode=append",
        f"--output={escape(folder.path)}/slurm.log", f"--chdir={folder.path}",
    ]  # fmt: skip
    for name in ("account", "partition", "qos", "constraint"):
        if slurm[name]:
            words.append(f"--{name}={slurm[name]}")
    if order["gpus"]:
        words.append(f"--gres=gpu:{slurm['gpu'] + ':' if slurm['gpu'] else ''}{len(order['gpus'])}")
    if slurm["exclusive"]:
        words.append("--exclusive")
    return [*words, *slurm["options"]]


def escape(path: str) -> str:
    """A path in which sbatch replaces nothing."""
    return path.replace("\\", "\\\\").replace("%", "%%")


def script(folder: AttemptFolder, order: Order) -> str:
    """The batch script. The login node's own Python may be elsewhere on the others."""
    interpreter, *words = agent_command("batch", folder.path, order["slurm"]["job_name"])
    rest = " ".join(map(shlex.quote, words))
    python = shlex.quote(interpreter)
    return f"#!/bin/sh\n[ -x {python} ] && exec {python} {rest}\nexec python3 {rest}\n"
