"""The job's own venv, at its final path.

An empty venv is three folders, three links and a small file, so it is made by hand in half a millisecond. Packages
are put in by uv with `--prefix`, told to resolve for a *base*: an empty venv per Python in the agent's home that is
never installed into. uv remembers what it learnt about that interpreter, while it would start each new venv's Python
only to ask it the same again (20 ms instead of 55). Scripts of packages then name the base's Python in their first
line, which is set right afterwards. Where there is no uv: `python -m venv` and pip.
"""

from __future__ import annotations

import os
import sys

from racksack_agent.problems import PrepareError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    from racksack_agent.ending import StopRequest
    from racksack_agent.home import AttemptFolder

    Order = Dict[str, Any]

_FILES = {"lock": "uv.lock", "requirements": "requirements.txt", "pyproject": "pyproject.toml"}


class Made:
    """The Python that runs the job's scripts, and the venv that it belongs to."""

    __slots__ = ("python", "venv")

    def __init__(self, python: str | None, venv: str | None) -> None:
        self.python = python
        self.venv = venv


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
        base = own_base()
    else:
        from racksack_agent import building

        return building.build(folder, order, kind, file, stop)
    make_venv(folder.venv, base)
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


class Base:
    """A Python to make venvs from."""

    __slots__ = ("python", "version")

    def __init__(self, python: str, version: str) -> None:
        self.python = python
        self.version = version


def own_base() -> Base:
    """The Python that runs the agent, seen through the links of a venv that it may have been started from."""
    return Base(os.path.realpath(sys.executable), ".".join(map(str, sys.version_info[:3])))


def make_venv(path: str, base: Base) -> None:
    """Make an empty venv. Raises OSError."""
    minor = "python" + ".".join(base.version.split(".")[:2])
    os.makedirs(path + "/bin")
    os.makedirs(f"{path}/lib/{minor}/site-packages")
    os.symlink("lib", path + "/lib64")
    os.symlink(base.python, path + "/bin/python")
    os.symlink("python", path + "/bin/python3")
    os.symlink("python", f"{path}/bin/{minor}")
    with open(path + "/pyvenv.cfg", "w", encoding="utf-8") as file:
        file.write(f"home = {os.path.dirname(base.python)}\ninclude-system-site-packages = false\n")
        file.write(f"version = {base.version}\nexecutable = {base.python}\n")
