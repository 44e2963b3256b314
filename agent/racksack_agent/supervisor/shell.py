"""A shell in the folder of a running attempt, with the job's variables, its venv first: for a person who looks what
is going on.

The variables come from the attempt's own record and not from arguments, which every user of the machine could read.
"""

from __future__ import annotations

import os
import sys

from racksack_agent import records
from racksack_agent.home import AttemptFolder
from racksack_agent.supervisor import variables


def main(arguments: list[str]) -> None:
    """Become the user's shell. Exits with a sentence when the attempt is not here."""
    folder = AttemptFolder(arguments[0])
    order = records.read(folder.launch)
    if order is None or not os.path.isdir(folder.work):
        sys.exit(f"attempt {folder.name} has no working folder on this node")
    venv = folder.venv if os.path.isdir(folder.venv) else None
    own = variables.job_variables(order, folder.path, venv, None)
    own["TERM"] = os.environ.get("TERM") or own["TERM"]
    shell = os.environ.get("SHELL") or "/bin/sh"
    os.chdir(folder.work)
    os.execve(shell, [shell], own)  # noqa: S606 - a shell is what is wanted
