"""Chooses what the job's venv is made of, and has it made. See `venvs` and `building`."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict

from racksack_agent.home import AttemptFolder
from racksack_agent.problems import PrepareError
from racksack_agent.supervisor import building, venvs
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.venvs import Made

Order = Dict[str, Any]

_FILES = {"lock": "uv.lock", "requirements": "requirements.txt", "pyproject": "pyproject.toml"}


def is_python(entrypoint: str) -> bool:
    """Whether the entrypoint is run by Python rather than by itself."""
    return entrypoint.endswith((".py", ".pyw"))


def make(folder: AttemptFolder, order: Order, stop: StopRequest) -> Made:
    """Make what the order asks for. Raises PrepareError; the log is out/env.log."""
    wanted = order["environment"]
    kind, file = choose(folder.work, order["entrypoint"], wanted)
    if kind == "none" and not wanted["python"]:
        return Made(os.path.realpath(sys.executable), None)
    if kind == "plain" and not wanted["python"]:
        base = venvs.own_base()
    else:
        return building.build(folder, order, kind, file, stop)
    venvs.make_venv(folder.venv, base)
    log = f"an empty venv with Python {base.version} ({base.python})\n"
    with open(folder.out + "/env.log", "w", encoding="utf-8") as env_log:
        env_log.write(log)
    return Made(folder.venv + "/bin/python", folder.venv)


def choose(work: str, entrypoint: str, wanted: dict[str, Any]) -> tuple[str, str]:
    """The kind (lock, requirements, pyproject, plain, none) and the file it reads."""
    kind, file = wanted["kind"], wanted["file"]
    if kind == "auto" and file:
        kind = _kind_of(file)
    if kind == "auto":
        return _found(work) or ("plain" if is_python(entrypoint) else "none", "")
    if kind == "none":
        return "none", ""
    file = file or _FILES[kind]
    if not os.path.isfile(os.path.join(work, file)):
        raise PrepareError(f"the project has no {file} to make the environment from")
    return kind, file


def _kind_of(file: str) -> str:
    name = os.path.basename(file)
    return {"uv.lock": "lock", "pyproject.toml": "pyproject"}.get(name, "requirements")


def _found(work: str) -> tuple[str, str] | None:
    for kind, file in _FILES.items():
        path = work + "/" + file
        if os.path.isfile(path) and (kind != "pyproject" or has_dependencies(path)):
            return kind, file
    return None


def has_dependencies(path: str) -> bool:
    """Whether a pyproject.toml names dependencies. Python 3.9 has no TOML reader; this looks for the key in its
    table.
    """
    table = ""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.strip()
            if text.startswith("["):
                table = text.strip("[] ")
            elif table == "project" and text.partition("=")[0].strip() == "dependencies":
                return True
    return False
