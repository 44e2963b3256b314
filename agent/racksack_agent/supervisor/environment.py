"""Has the job's venv made by the plan in its order, and says in env.log what that is. The controller has chosen it: it
can read the files in which projects list their packages. See `venvs` and `building`.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict

from racksack_agent.home import AttemptFolder
from racksack_agent.problems import PrepareError
from racksack_agent.supervisor import building, python_versions, venv_reuse, venvs
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.venvs import Made

Order = Dict[str, Any]


def is_python(entrypoint: str) -> bool:
    """Whether the entrypoint is run by Python rather than by itself."""
    return entrypoint.endswith((".py", ".pyw"))


def make(folder: AttemptFolder, order: Order, stop: StopRequest) -> Made:
    """Make what the order asks for. Raises PrepareError; the log is out/env.log."""
    plan = order["environment"]
    if plan["problem"]:
        raise PrepareError(plan["problem"])
    own = venvs.own_base()
    wants_other = plan["python"] or not python_versions.fits(own.version, plan["requires_python"])
    if plan["kind"] not in ("none", "plain") or wants_other:
        say(folder, plan)
        return building.build(folder, order, stop)
    if plan["kind"] == "none":
        say(folder, plan)
        return Made(os.path.realpath(sys.executable), None)
    venvs.make_venv(folder.venv, own)
    say(folder, plan, f"an empty venv with Python {own.version} ({own.python})\n")
    return Made(folder.venv + "/bin/python", folder.venv)


def say(folder: AttemptFolder, plan: Dict[str, Any], more: str = "") -> None:
    """Begin the log with what was chosen and what is not installed."""
    chosen = f"environment: {plan['chosen']}\n" if plan["chosen"] else ""
    text = chosen + "".join(f"note: {note}\n" for note in plan["notes"]) + more
    if text:
        with open(folder.out + "/env.log", "w", encoding="utf-8", errors="surrogateescape") as log:
            log.write(text)


def keep_venv(folder: AttemptFolder, since_ns: int) -> None:
    """After the job: keep a venv that it did not change, for the next one that asks for the same."""
    venv_reuse.give(folder, since_ns)
