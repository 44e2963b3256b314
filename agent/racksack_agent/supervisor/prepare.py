"""Makes an attempt ready: the project's copy, paths in RAM, the venv, and the command line with its environment."""

from __future__ import annotations

import errno
import os
from typing import Any, Dict

from racksack_agent import records, verified
from racksack_agent.home import AttemptFolder, Home
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.supervisor import (
    copying,
    data,
    environment,
    ram_shared,
    ramdisk,
    shared,
    short_tmp,
    sweep_plan,
    variables,
)
from racksack_agent.supervisor.checkpoints import resuming
from racksack_agent.supervisor.end import StopRequest

Order = Dict[str, Any]

# What names and links of a project lead to. All else that the file system refuses is the node's fault: another may do.
_FAULTS_OF_PROJECTS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


class Prepared:
    """What to start."""

    __slots__ = ("argv", "env")

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.argv = argv
        self.env = env


def prepare(folder: AttemptFolder, order: Order, stop: StopRequest) -> Prepared:
    """Do all of it. Raises PrepareError with a sentence, also when a stop comes meanwhile."""
    try:
        return _prepare(folder, order, stop)
    except OSError as problem:
        if records.is_full(problem):
            raise NodeAtFaultError("the node's disk was full while the attempt was prepared") from problem
        at_fault = PrepareError if problem.errno in _FAULTS_OF_PROJECTS else NodeAtFaultError
        raise at_fault(f"the attempt could not be prepared: {problem}") from problem


def _prepare(folder: AttemptFolder, order: Order, stop: StopRequest) -> Prepared:
    check_contents(folder.home, order)
    snapshot = folder.home.snapshots + "/" + order["digest"]
    linked = shared.paths_of(snapshot, order.get("shared", ()), order["entrypoint"])
    copying.copy_tree(snapshot, folder.work, stop, linked)
    shared.protect(snapshot, linked)
    data.provide(folder, order["data"], [snapshot] if linked else [])
    resuming.provide(folder, order, stop)
    os.chdir(folder.work)  # all programs of the attempt start here
    entry = entry_path(folder.work, order["entrypoint"])
    ram_folder, ram = None, None
    if order["stage_in_ram"] and order["sweep"] is not None:
        ram = ram_shared.stage(folder, order["stage_in_ram"], stop)
        ram_folder = ram.folder
    elif order["stage_in_ram"]:
        ram_folder = ramdisk.stage(folder, order["stage_in_ram"], stop)
    made = environment.make(folder, order, stop)
    short_tmp.make(folder)
    env = variables.job_variables(order, folder.path, made.venv, ram_folder)
    env.update(resuming.variables(folder, order, env))
    if order["sweep"] is not None:
        in_ram = ram.told() if ram is not None else None
        return Prepared(sweep_plan.prepare(folder, order, made.python, in_ram), env)
    return Prepared([*command(entry, order["entrypoint"], made.python), *order["args"]], env)


def check_contents(home: Home, order: Order) -> None:
    """Whether what the attempt uses is what it was when it came: a job may have written into it, somebody may have
    removed it. Damaged content is removed, and so brought again. Raises NodeAtFaultError, OSError.
    """
    earlier = (order.get("checkpoint") or {}).get("digest", "")
    for digest in (order["digest"], *(one["digest"] for one in order["data"]), earlier):
        path = f"{home.snapshots}/{digest}"
        if not digest or verified.is_whole(path, digest):
            continue
        verified.remove(path, f"{home.incoming}/.put-damaged-{digest}-{os.getpid()}")
        raise NodeAtFaultError(f"the node's copy of the content {digest[:12]} was changed or removed; it is sent again")


def entry_path(work: str, entrypoint: str) -> str:
    """The entrypoint's full path. Raises PrepareError when it is absent or outside the project."""
    entry = os.path.join(work, entrypoint)
    real = os.path.realpath(entry)
    if not real.startswith(os.path.realpath(work) + "/"):
        raise PrepareError(f"the entrypoint {entrypoint} lies outside the project")
    if not os.path.isfile(real):
        raise PrepareError(f"the project has no file {entrypoint}")
    return entry


def command(entry: str, entrypoint: str, python: str | None) -> list[str]:
    """How the entrypoint is started: a Python script by the venv's Python, anything else by itself."""
    if environment.is_python(entrypoint):
        assert python is not None  # noqa: S101 - scripts always have one
        return [python, entrypoint]
    if not os.access(entry, os.X_OK) or not os.stat(entry).st_mode & 0o111:
        with open(entry, "rb") as file:
            if file.read(2) != b"#!":
                raise PrepareError(f"{entrypoint} is not executable (chmod +x) and does not begin with #!")
        os.chmod(entry, 0o755)  # noqa: S103 - the job's own copy, in a folder closed to others
    return [entry]
