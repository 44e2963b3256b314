"""Builds a venv with packages: with uv where there is one, else with `python -m venv` and pip. Its log is
out/env.log.

Asking the package index again whether its answers are still fresh takes longer than all the rest. So requirements
that are pinned, or that were installed here within the hour, are first installed from the cache alone; only if that
fails the index is asked. See `venv_reuse` for venvs that need not even be built.
"""

from __future__ import annotations

import binascii
import os
import shutil
from typing import Any, Dict, Sequence

from racksack_agent import records
from racksack_agent.boot import boot_id
from racksack_agent.home import AttemptFolder
from racksack_agent.problems import NodeAtFaultError, PrepareError
from racksack_agent.supervisor import build_log, installed, installing, python_versions, venv_reuse, venvs
from racksack_agent.supervisor.builder import Builder
from racksack_agent.supervisor.end import StopRequest
from racksack_agent.supervisor.venvs import Base, Made

Order = Dict[str, Any]


def build(folder: AttemptFolder, order: Order, stop: StopRequest) -> Made:
    """Make the venv of the order's plan. Raises PrepareError with the last line of the log that says something."""
    builder = Builder(folder, order, stop)
    plan = builder.plan
    base = find_base(builder, plan["python"], plan["requires_python"])
    if plan["kind"] == "none":
        return Made(base.python, None)
    key = venv_reuse.key_of(builder, base.version)
    if key and venv_reuse.take(folder, key):
        builder.note(f"reused: a venv with Python {base.version} that an earlier job left unchanged")
    else:
        if not _build(builder, base):
            builder.check_node()
            source = plan["file"] or plan["chosen"]
            sentence = build_log.failure(builder.log)
            raise PrepareError(f"the environment could not be made from {source}: {sentence}; see env.log")
        venv_reuse.mark(folder, key)
    _add_paths(folder, plan["paths"], base)
    return Made(folder.venv + "/bin/python", folder.venv)


def _build(builder: Builder, base: Base) -> bool:
    if builder.plan["kind"] == "plain":
        _make_empty(builder, base)
        return True
    return installing.with_pip(builder, base) if builder.uv is None else _build_with_uv(builder, base)


def _make_empty(builder: Builder, base: Base) -> None:
    venvs.make_venv(builder.folder.venv, base)
    builder.note(f"a venv with Python {base.version} ({base.python})")


def _build_with_uv(builder: Builder, base: Base) -> bool:
    """Install with uv. For the first time since the machine's start what came out of uv's cache is checked, and brought
    anew where a power cut damaged it. Raises NodeAtFaultError when that does not help, OSError.
    """
    checked = Checked(builder)
    done = _install_with_uv(builder, base)
    if not done or checked.in_this_boot():
        return done
    bad = installed.damaged(builder.folder.venv)
    if bad:
        builder.note(f"{', '.join(bad)} in uv's cache is damaged, as a power cut leaves it; it is downloaded again")
        assert builder.uv is not None  # noqa: S101 - the caller has looked
        builder.run([builder.uv, "cache", "clean", *bad])
        shutil.rmtree(builder.folder.venv)
        done = _install_with_uv(builder, base)
        if done and installed.damaged(builder.folder.venv):
            raise NodeAtFaultError(f"{', '.join(bad)} was damaged on this node, and again after another download")
    if done:
        checked.remember()
    return done


def _install_with_uv(builder: Builder, base: Base) -> bool:
    by_names = bool(builder.env.get("RACKSACK_INDEX"))  # the addresses in a lock may not be reached
    if builder.plan["kind"] == "lock" and not by_names:
        return installing.with_lock(builder, base)
    _make_empty(builder, base)
    return installing.with_uv(builder, base) if builder.plan["kind"] != "lock" else installing.by_names(builder, base)


class Checked:
    """Whether the packages that a plan leads to were checked since the machine's start."""

    def __init__(self, builder: Builder) -> None:
        name = f"{binascii.crc32(installing.content(builder)):08x}.boot"
        self._path = f"{builder.folder.home.cache}/resolved/{name}"

    def in_this_boot(self) -> bool:
        """What was checked since then is in memory or on the disk."""
        try:
            with open(self._path, encoding="ascii") as file:
                return file.read() == boot_id()
        except (OSError, ValueError):
            return False

    def remember(self) -> None:
        """Note that they were checked just now."""
        records.replace(self._path, boot_id().encode())


def _add_paths(folder: AttemptFolder, paths: Sequence[str], base: Base) -> None:
    """Let the venv's Python find the project's own modules where they are."""
    if paths:
        minor = "python" + ".".join(base.version.split(".")[:2])
        with open(f"{folder.venv}/lib/{minor}/site-packages/{venv_reuse.PATHS}", "w", encoding="utf-8") as file:
            file.write("".join(os.path.normpath(f"{folder.work}/{path}") + "\n" for path in paths))


def find_base(builder: Builder, wanted: str | None, requires: str) -> Base:
    """A Python of the wanted version, or of those that the project works with, from this machine or, with uv, from
    where uv gets it. Raises PrepareError.
    """
    own = venvs.own_base()
    if _is_wanted(own.version, wanted) and (wanted or python_versions.fits(own.version, requires)):
        return own
    asked = wanted or requires
    found = _find_python(builder, asked)
    answer = builder.folder.tmp + "/python-version"
    asks = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    version = _first_line(answer) if found and builder.run([found, "-I", "-S", "-c", asks], output=answer) else ""
    if not found or not _is_wanted(version, wanted) or not (wanted or python_versions.fits(version, requires)):
        said = build_log.failure(builder.log) if builder.uv else "it has no uv to install one with"
        raise NodeAtFaultError(f"this node has no Python {asked}, and it could not be installed: {said}")
    return Base(os.path.realpath(found), version)


def _is_wanted(version: str, wanted: str | None) -> bool:
    return not wanted or f"{version}.".startswith(wanted.rstrip(".") + ".")


def _find_python(builder: Builder, wanted: str) -> str | None:
    if builder.uv:
        answer = builder.folder.tmp + "/python-path"
        find = [builder.uv, "python", "find", "--no-project", "--system", wanted]
        if builder.run(find, output=answer) or (
            builder.run([builder.uv, "python", "install", wanted]) and builder.run(find, output=answer)
        ):
            return _first_line(answer)
    for folder in builder.env.get("PATH", os.defpath).split(":"):
        path = f"{folder}/python{wanted}"
        if os.access(path, os.X_OK):
            return path
    return None


def _first_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.readline().strip()
