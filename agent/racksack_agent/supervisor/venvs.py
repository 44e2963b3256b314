"""The job's own venv, at its final path.

An empty venv is three folders, three links and a small file, so it is made by hand in half a millisecond. Packages
are put in by uv with `--prefix`, told to resolve for a *base*: an empty venv per Python in the agent's home that is
never installed into. uv remembers what it learnt about that interpreter, while it would start each new venv's Python
only to ask it the same again (20 ms instead of 55). Scripts of packages then name the base's Python in their first
line, which is set right afterwards. Where there is no uv: `python -m venv` and pip.
"""

from __future__ import annotations

import binascii
import os
import shutil
import sys


class Made:
    """The Python that runs the job's scripts, and the venv that it belongs to."""

    __slots__ = ("python", "venv")

    def __init__(self, python: str | None, venv: str | None) -> None:
        self.python = python
        self.venv = venv


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
        file.write(_settings(base))


def _settings(base: Base) -> str:
    """The content of pyvenv.cfg."""
    return (
        f"home = {os.path.dirname(base.python)}\ninclude-system-site-packages = false\n"
        f"version = {base.version}\nexecutable = {base.python}\n"
    )


def stable_base(bases: str, base: Base) -> str:
    """The base venv of a Python, made on first use, and again when it was damaged. Safe when several attempts make it
    at once.
    """
    name = f"{base.version}-{binascii.crc32(os.fsencode(base.python)):08x}"
    path = bases + "/" + name
    if not _is_whole(path, base):
        beside = f"{path}.{os.getpid()}.new"
        make_venv(beside, base)
        if os.path.lexists(path) and not _is_whole(path, base):  # else another attempt has just made it
            os.rename(path, beside + ".old")
            shutil.rmtree(beside + ".old", ignore_errors=True)
        try:
            os.rename(beside, path)
        except OSError:  # another attempt was quicker
            shutil.rmtree(beside)
            if not os.path.isdir(path):
                raise
    return path


def _is_whole(path: str, base: Base) -> bool:
    """Whether a base venv is as `make_venv` made it, as far as uv looks at it."""
    try:
        with open(path + "/pyvenv.cfg", encoding="utf-8") as file:
            return file.read() == _settings(base) and os.readlink(path + "/bin/python") == base.python
    except (OSError, ValueError):
        return False
